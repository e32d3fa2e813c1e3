#include "runtime/data_plane/block_copier.hpp"

#include <algorithm>

#include "runtime/reactor/async.hpp"

namespace varve {

namespace {

/// Waits for one transfer: its status.
class carried {
public:
  carried(fabric& on, std::span<const std::byte> from, registered_buffer& into) : fabric_(on) {
    state_.x.from = from;
    state_.x.into = &into;
    state_.x.complete = [](fabric_transfer& x) {
      auto& self = reinterpret_cast<state&>(x);
      self.over = true;
      if (auto waiting = std::exchange(self.waiting, nullptr))
        waiting.resume();
    };
  }
  carried(const carried&) = delete;

  bool await_ready() {
    fabric_.transfer(state_.x);
    return state_.over;
  }
  void await_suspend(std::coroutine_handle<> handle) noexcept { state_.waiting = handle; }
  std::error_code await_resume() const noexcept { return state_.x.status; }

private:
  struct state {
    fabric_transfer x; // first: its address is the state's
    std::coroutine_handle<> waiting;
    bool over = false;
  };
  fabric& fabric_;
  state state_;
};

} // namespace

task<errc> block_copier::copy(shard& from, shard& to, registered_buffer& landing, uint64_t offset, uint64_t length,
                              copy_tally& tally) {
  auto status = errc::none;
  auto staging = reactor_.buffers().take(length);
  block_sums sums;
  for (unsigned attempt = 0; attempt < attempts_; ++attempt) {
    sums.crcs.clear();
    sums.states.clear();
    auto bytes = staging.bytes().first(length);
    status = co_await from.read_with_sums(offset, bytes, sums);
    if (status != errc::none)
      break; // rot at the source, or its device: sending again helps nothing
    const auto holes =
      std::all_of(sums.states.begin(), sums.states.end(), [](auto x) { return x == block_state::hole; });
    if (!holes) {
      carried transfer{fabric_, bytes, landing};
      auto failed = co_await transfer;
      if (failed) {
        status = errc::timed_out;
        continue;
      }
    }
    std::span<const std::byte> landed = landing.bytes().first(length);
    status = co_await to.write_with_sums(offset, landed, sums);
    if (status != errc::checksum_mismatch) {
      tally.blocks_verified += status == errc::none ? length / block_size : 0;
      break;
    }
    ++tally.verify_failures;
  }
  reactor_.buffers().give(std::move(staging));
  co_return status;
}

} // namespace varve
