// Serves an in-memory volume by NBD, to hold real clients against the server: nbd_memory_server SOCKET SIZE-IN-MIB
// [copies] [delayed] [readonly]. Ends at SIGTERM or SIGINT.

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "runtime/nbd/nbd_server.hpp"
#include "runtime/reactor/rings.hpp"
#include "tests/runtime/nbd/memory_backend.hpp"

namespace {

varve::reactor* stopped_by_signal = nullptr;
volatile std::sig_atomic_t asked_to_stop = 0;

varve::task<void> close_and_stop(varve::nbd_server& server, varve::reactor& on) {
  co_await server.close(false);
  on.stop();
}

} // namespace

int main(int argc, char** argv) {
  using namespace varve;
  if (argc < 3) {
    std::fprintf(stderr, "usage: %s SOCKET SIZE-IN-MIB [copies] [delayed] [readonly]\n", argv[0]);
    return 2;
  }
  test::memory_faults faults;
  bool read_only = false;
  nbd_options options;
  for (auto i = 3; i < argc; ++i) {
    faults.copies |= std::strcmp(argv[i], "copies") == 0;
    read_only |= std::strcmp(argv[i], "readonly") == 0;
    if (std::strcmp(argv[i], "delayed") == 0)
      faults.delayed = 0.5;
    if (std::strncmp(argv[i], "buffers=", 8) == 0)
      options.socket_buffer_bytes = std::strtoull(argv[i] + 8, nullptr, 10);
    if (std::strcmp(argv[i], "indirect") == 0)
      options.direct = false;
  }
  auto made = make_ring({});
  reactor on{*made.ring};
  test::memory_backend backend{on, std::strtoull(argv[2], nullptr, 10) << 20, faults, read_only};
  test::named_exports exports;
  exports.known[""] = &backend;
  exports.known["vm1"] = &backend;
  nbd_server server{on, exports, options};
  if (auto status = server.listen(argv[1]); status != errc::none) {
    std::fprintf(stderr, "cannot listen on %s: %s\n", argv[1], to_string(status));
    return 1;
  }
  stopped_by_signal = &on;
  for (auto signal : {SIGTERM, SIGINT})
    std::signal(signal, [](int) { asked_to_stop = 1; });
  while (!asked_to_stop)
    on.step(on.now() + std::chrono::milliseconds{200});
  start(close_and_stop(server, on));
  on.run();
  return 0;
}
