#include "rdma/local_fabric.hpp"

#include <cassert>
#include <cstring>

namespace varve {

local_fabric::local_fabric(local_fabric_faults faults) : faults_(std::move(faults)), random_(faults_.seed) {}

registered_buffer local_fabric::make_buffer(size_t size) {
  // Nothing to register: every thread of the process can write there.
  return {buffer{size}, nullptr};
}

void local_fabric::transfer(fabric_transfer& x) {
  assert(x.into_offset + x.from.size() <= x.into->bytes().size());
  if (faults_.later && faults_.delay_max.count() > 0 && happens(faults_.delay)) {
    std::chrono::nanoseconds delay{static_cast<int64_t>(random_() % static_cast<uint64_t>(faults_.delay_max.count()))};
    faults_.later(delay, [this, &x] { carry(x); });
    return;
  }
  carry(x);
}

bool local_fabric::happens(double share) {
  // Not drawn where it cannot happen, so that a fault that is off does not shift the others.
  return share > 0 && std::uniform_real_distribution<double>{}(random_) < share;
}

void local_fabric::carry(fabric_transfer& x) {
  auto into = x.into->bytes().subspan(x.into_offset, x.from.size());
  x.status = {};
  if (happens(faults_.drop)) {
    ++dropped_;
    std::memcpy(into.data(), x.from.data(), x.from.size() / 2);
    x.status = std::make_error_code(std::errc::timed_out);
  } else {
    std::memcpy(into.data(), x.from.data(), x.from.size());
    if (!into.empty() && happens(faults_.corrupt)) {
      ++corrupted_;
      auto bit = random_() % (into.size() * 8);
      into[bit / 8] ^= std::byte(1u << bit % 8);
    }
  }
  x.complete(x);
}

} // namespace varve
