// gRPC comes from Debian without ThreadSanitizer, as CAF does (tsan_caf.cpp): what it hands from the thread that begins
// a call to the one that takes its end from a completion queue looks like a race. The two functions of its C library
// where that happens take the library's place here, tell of the order, and call gRPC's own. What gRPC does within
// itself is not looked at (ignore_noninstrumented_modules, for this program only).

#include <cstdlib>
#include <iostream>

#include <dlfcn.h>
#include <grpc/grpc.h>
#include <sanitizer/tsan_interface.h>

namespace {

template <class F>
F* original(const char* name) {
  if (auto* found = ::dlsym(RTLD_NEXT, name))
    return reinterpret_cast<F*>(found);
  std::cerr << "tsan_grpc: gRPC has no " << name << "\n";
  std::abort();
}

} // namespace

extern "C" {

grpc_call_error grpc_call_start_batch(grpc_call* call, const grpc_op* ops, size_t count, void* tag, void* reserved) {
  static auto* const own = original<decltype(grpc_call_start_batch)>("grpc_call_start_batch");
  __tsan_release(tag);
  return own(call, ops, count, tag, reserved);
}

grpc_event grpc_completion_queue_next(grpc_completion_queue* from, gpr_timespec until, void* reserved) {
  static auto* const own = original<decltype(grpc_completion_queue_next)>("grpc_completion_queue_next");
  const auto x = own(from, until, reserved);
  if (x.type == GRPC_OP_COMPLETE)
    __tsan_acquire(x.tag);
  return x;
}

} // extern "C"
