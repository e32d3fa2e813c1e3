#pragma once

#include <chrono>
#include <functional>
#include <random>

#include "rdma/fabric.hpp"

namespace varve {

/// What goes wrong on purpose, drawn from `seed`. Each share is a probability of 0 to 1 for one transfer.
struct local_fabric_faults {
  uint64_t seed = 1;
  /// Ends with std::errc::timed_out; half of the bytes have arrived.
  double drop = 0;
  /// Ends well with one bit flipped.
  double corrupt = 0;
  /// Ends up to `delay_max` later, and so behind transfers that began after it.
  double delay = 0;
  std::chrono::nanoseconds delay_max{0};
  /// Calls the function so much later, on the thread of the fabric; needed for delays. This layer has no clock.
  std::function<void(std::chrono::nanoseconds, std::function<void()>)> later;
};

/// Both ends in one process: a transfer is a copy.
class local_fabric final : public fabric {
public:
  explicit local_fabric(local_fabric_faults faults = {});

  registered_buffer make_buffer(size_t size) override;
  void transfer(fabric_transfer& x) override;
  const char* name() const noexcept override { return "local"; }

  uint64_t dropped() const noexcept { return dropped_; }
  uint64_t corrupted() const noexcept { return corrupted_; }

private:
  bool happens(double share);
  void carry(fabric_transfer& x);

  local_fabric_faults faults_;
  std::mt19937_64 random_;
  uint64_t dropped_ = 0;
  uint64_t corrupted_ = 0;
};

} // namespace varve
