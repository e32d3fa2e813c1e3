#include "runtime/reactor/rings.hpp"

namespace varve {

made_ring make_ring(const ring_options& options) {
  made_ring result;
  if (options.kind != ring_kind::threads)
    result.ring = make_uring_ring(options, result.refusal);
  if (!result.ring && options.kind != ring_kind::io_uring)
    result.ring = make_threads_ring(options);
  return result;
}

} // namespace varve
