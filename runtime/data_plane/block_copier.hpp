#pragma once

#include "rdma/fabric.hpp"
#include "runtime/reactor/reactor.hpp"
#include "runtime/storage/shard.hpp"

namespace varve {

/// What copying has found out on the way.
struct copy_tally {
  uint64_t blocks_verified = 0;
  uint64_t verify_failures = 0;
};

/// Copies blocks from one home of a shard to another: read with their sums, transferred into the sink's registered
/// memory, verified there, written. One reactor thread.
class block_copier {
public:
  /// A chunk that did not arrive as it was sent is sent `attempts` times.
  block_copier(reactor& on, fabric& carrier, unsigned attempts) : reactor_(on), fabric_(carrier), attempts_(attempts) {}

  /// Whole blocks, as many as `landing` has room for; nobody else uses `landing` meanwhile.
  task<errc> copy(shard& from, shard& to, registered_buffer& landing, uint64_t offset, uint64_t length,
                  copy_tally& tally);

private:
  reactor& reactor_;
  fabric& fabric_;
  unsigned attempts_;
};

} // namespace varve
