#pragma once

#include <unordered_map>

#include "runtime/data_plane/active_shard.hpp"

namespace varve {

/// Told by a shard_table what its ports must know.
class shard_watcher {
public:
  virtual ~shard_watcher() = default;
  /// Requests that park at this shard may try again: it became active, its gate opened, or it is not to be had.
  virtual void retry(const shard_key& key) = 0;
  /// Nothing may point to it from now on. `gone`: this home is no more, so that its routes are refused, too.
  virtual void forget(active_shard& x, bool gone) = 0;
};

/// The active shards of one reactor, of all tiers. Reactor's thread only.
class shard_table {
public:
  /// A drain that takes longer gives up with errc::unavailable and opens the gate again: a hung device delays a
  /// fence, it never permits it.
  static constexpr std::chrono::nanoseconds drain_limit = std::chrono::seconds{10};

  shard_table(reactor& on, std::vector<std::unique_ptr<shard_store>> stores, shard_watcher& watcher);
  ~shard_table();

  /// The position of a tier, or -1.
  int tier_of(const std::string& name) const noexcept;
  shard_store& store(uint16_t tier) noexcept { return *stores_[tier]; }
  size_t tiers() const noexcept { return stores_.size(); }

  /// An active shard that may be used; null when it is not active, being opened or being closed.
  active_shard* find(const shard_key& key) noexcept;

  task<errc> create(uint16_t tier, shard_header header, active_shard*& out);
  /// Opens it unless it is open. errc::not_found when there is no such file, also while it is being removed.
  task<errc> activate(shard_key key, active_shard*& out);
  /// Makes one active that an earlier process left unflushed at another node, without asking that: its flush does.
  task<void> inherit(shard_key key, uint64_t size, uint64_t verifier);
  /// Checkpoints and closes; errc::unavailable when it is in use, errc::none when it was not active. `even_failed`:
  /// also one that errc::shard_failed says has lost what it should sync.
  task<errc> passivate(shard_key key, bool even_failed = false);
  /// Passivates what is open of a volume's shards at other nodes, failed ones, too. What cannot be synced now stays.
  task<void> leave_remote(volume_id volume);
  task<errc> raise_fence(shard_key key, epoch to);
  /// Closes it for good and deletes the file; requests at its gate are refused with shard_moved. Waits for users (the
  /// caller is none). errc::none when there was nothing.
  task<errc> remove(shard_key key);
  task<errc> verify(shard_key key, uint64_t& bad_blocks);

  void close_gate(active_shard& x) noexcept { ++x.closings; }
  void open_gate(active_shard& x);

  /// Checkpoints and closes everything; what cannot be by `deadline` is left behind. The first error.
  task<errc> close_all(boot_time deadline);

  template <class F>
  void for_each(F f) {
    for (auto& [key, x] : shards_)
      if (x->shard && !x->leaving)
        f(*x);
  }

private:
  /// Shared with those who wait for it to be opened or closed.
  struct place : active_shard {
    using active_shard::active_shard;
    async_event settled;
    errc status = errc::none;
  };

  task<errc> settle_open(std::shared_ptr<place> x, opened_shard opened);
  void let_go(std::shared_ptr<place> x, errc status);
  std::shared_ptr<place> find_place(const shard_key& key);

  reactor& reactor_;
  std::vector<std::unique_ptr<shard_store>> stores_;
  shard_watcher& watcher_;
  std::unordered_map<shard_key, std::shared_ptr<place>> shards_;
};

} // namespace varve
