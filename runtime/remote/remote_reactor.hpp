#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "runtime/remote/host_names.hpp"
#include "runtime/remote/remote_plane.hpp"
#include "runtime/remote/remote_server.hpp"
#include "runtime/remote/remote_shard.hpp"
#include "runtime/remote/shared_keys.hpp"

namespace varve {

/// What a remote_plane and its reactors have in common. Any thread.
struct remote_plane::shared {
  explicit shared(remote_plane_options x);
  ~shared();

  /// Runs `f` on a reactor, unless it has none of this any more by then.
  static void post(const std::shared_ptr<shared>& self, uint32_t reactor, std::function<void(remote_reactor&)> f);
  /// The position of a node; nodes.size(): none.
  size_t find(const std::string& node) const noexcept;

  /// How one of our reactors gets to one of theirs.
  struct way {
    session_key key;
    uint16_t port = 0;
  };
  struct way_to {
    size_t node = 0;
    uint32_t theirs = 0, own = 0;
    auto operator<=>(const way_to&) const noexcept = default;
  };

  const remote_plane_options options;
  std::vector<std::unique_ptr<shared_keys>> keys; // of our reactors' servers
  host_names names;

  std::mutex mutex;
  std::vector<remote_reactor*> parts; // guarded by mutex, as all below; by reactor, null before and after its life
  std::vector<int> listening;         // by reactor; -1: none, or its server has it
  std::vector<uint32_t> reactors;     // by node; 0: not known
  std::map<way_to, way> ways;

  std::mutex told_mutex;
  /// Guarded by told_mutex, also while it is called: who takes it away knows that it is not called any more.
  std::function<void(std::string node, uint32_t theirs, uint32_t own, remote_session_state state)> told;
};

/// The part of a remote_plane on one reactor: a server for the reactors of other nodes, a client for each of theirs
/// that it has a key for, and the stores that their tiers are here. Reactor's thread only.
class remote_reactor final : public reactor_peers {
public:
  remote_reactor(reactor& on, uint32_t index, std::shared_ptr<remote_plane::shared> of);
  ~remote_reactor() override;

  reactor& on() noexcept { return reactor_; }

  std::vector<std::unique_ptr<shard_store>> make_stores() override;
  void serve(shard_table& shards, foreground_load& load) override;
  std::vector<inherited_shard> inherit(volume_id volume, holder_id holder) override;
  void retry(const shard_key& key) override;
  void give_up_at(boot_time when) override;
  task<void> stop_serving(boot_time deadline) override;
  task<void> close() override;

  // -- told by the remote_plane
  void revoke(uint64_t key);
  /// There is a key: connects, if it is not connected.
  void reach(size_t node, uint32_t theirs);
  void set_reactors(size_t node, uint32_t count);
  void counters(remote_plane_counters& into) const;

private:
  struct peer {
    uint32_t reactors = 0; // theirs
    std::map<uint32_t, std::unique_ptr<remote_client>> clients;
  };

  struct tier {
    remote_store* store = nullptr; // the table's
    size_t node = 0;
  };

  remote_client* client_to(size_t node, volume_id volume) noexcept;
  std::unique_ptr<remote_client> make_client(size_t node, uint32_t theirs);
  task<void> end_client(std::unique_ptr<remote_client> x);
  void end_clients(peer& x, uint32_t from);
  task<void> close_server();
  task<void> giving_up(boot_time when);

  // -- shards that are open here
  size_t open_shards() const noexcept;
  void opened();
  task<void> look_after();
  /// Idle ones; `most`: as many more as it takes to have no more than that.
  task<void> close_idle(size_t most);
  bool closable(const active_shard& x) noexcept;

  reactor& reactor_;
  const uint32_t index_;
  std::shared_ptr<remote_plane::shared> shared_;
  std::unique_ptr<remote_server> server_;
  shard_table* shards_ = nullptr;
  std::vector<peer> peers_; // by node
  std::vector<tier> tiers_;
  remote_client_counters past_; // of clients that have ended
  bool given_up_ = false;
  bool closing_ = false;
  bool crowded_ = false; // more are open than may be

  size_t running_ = 0; // of what `close` waits for: all that runs by itself
  async_event idle_;
  async_event wake_;     // of look_after
  async_event give_up_;  // of giving_up
  async_event unserved_; // of stop_serving
  bool served_ = false;  // the server is not closed yet
};

} // namespace varve
