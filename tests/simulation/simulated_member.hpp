#pragma once

#include <array>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include <caf/all.hpp>
#include <caf/scheduler/test_coordinator.hpp>

#include "actors/node_context.hpp"
#include "actors/root_keeper.hpp"
#include "messages/interfaces.hpp"
#include "messages/register.hpp"
#include "runtime/data_plane/reactor_data_plane.hpp"
#include "runtime/reactor/simulated_ring.hpp"
#include "runtime/remote/remote_plane.hpp"
#include "tests/simulation/planted_bugs.hpp"
#include "tests/simulation/simulated_control.hpp"
#include "tests/simulation/simulated_etcd.hpp"
#include "tests/simulation/watched_plane.hpp"

namespace varve::test {

/// What all machines of one simulated cluster share.
struct simulated_site {
  simulated_world& world;
  simulated_network& data;
  control_network& control;
  simulated_etcd& etcd;
  planted_bug bug = planted_bug::none;
};

/// One machine of a cluster and the node on it: production's actors under a test scheduler of their own, its data plane
/// over a simulated ring and disk. The disk outlives the process, which `boot` starts anew.
class simulated_member {
public:
  /// `options` as the configuration of this node; `number` tells machines apart.
  simulated_member(simulated_site& site, int number, node_options options, int64_t drift_ppm, plane_watcher& watcher);
  ~simulated_member();
  simulated_member(const simulated_member&) = delete;

  const std::string& name() const noexcept { return options.name; }
  int number() const noexcept { return number_; }
  bool running() const noexcept { return life_ != nullptr; }
  bool paused() const noexcept { return paused_; }
  /// By the clock of this machine.
  boot_time now() const noexcept { return clock_.local(site_.world.now()); }
  boot_time world_at(boot_time local) const noexcept { return clock_.world(local); }
  bool host() const noexcept { return options.roles.host; }

  void boot();
  /// kill -9; or the machine loses power, and with it what was not synced.
  void crash(bool power_loss);
  void pause(bool on);

  /// When an actor's timer is due, by the world's clock.
  boot_time next_event() const;
  /// Runs what is due and what that leads to; whether anything ran.
  bool run();

  // Of the present process; null or invalid when there is none.
  data_plane* plane() const noexcept { return life_ ? life_->plane.get() : nullptr; }
  block_backend* backend(volume_id volume) const { return life_ ? life_->plane->backend(volume) : nullptr; }
  const node_context* context() const noexcept { return life_ ? life_->context.get() : nullptr; }
  caf::actor_system* system() const noexcept { return life_ ? life_->system.get() : nullptr; }
  const control_end* link() const noexcept { return life_ ? life_->link.get() : nullptr; }
  /// Ends an actor as a bug would.
  void kill(const std::string& path);

  node_options options;
  simulated_disk disk;
  uint64_t lives = 0;
  std::map<std::string, uint64_t> published;
  /// Told of what actors publish. May be empty.
  std::function<void(const std::string& code, const std::string& text)> on_event;

private:
  struct config : caf::actor_system_config {
    config() {
      set("scheduler.policy", caf::atom("testing"));
      add_messages(*this);
    }
  };
  struct life {
    std::unique_ptr<config> settings;
    std::unique_ptr<caf::actor_system> system;
    caf::scheduler::test_coordinator* scheduler = nullptr;
    caf::detail::test_actor_clock* timers = nullptr;
    /// What both clocks showed when it began.
    boot_time began{0};
    caf::actor_clock::time_point timers_began;
    std::unique_ptr<simulated_ring> ring;
    std::unique_ptr<reactor> on;
    std::shared_ptr<remote_plane> remote;
    std::shared_ptr<reactor_data_plane> plane;
    std::shared_ptr<control_end> link;
    std::shared_ptr<simulated_candidate> candidate;
    std::shared_ptr<node_context> context;
    std::shared_ptr<root_place> root = std::make_shared<root_place>();
    caf::actor keeper;
    bool gave_up = false;
  };

  std::shared_ptr<remote_plane> make_remote();
  std::function<void(std::span<std::byte>)> seeded();
  void end_actors(life& x);
  tier_scan scan(const std::string& tier) const;

  simulated_site& site_;
  int number_;
  simulated_clock clock_;
  plane_watcher& watcher_;
  std::unique_ptr<life> life_;
  bool paused_ = false;
  uint64_t machine_boots_ = 1;
  /// As the file of production's: outlives the process, not the machine's power.
  std::vector<std::array<std::byte, unsynced_book::record_bytes>> unsynced_;
};

} // namespace varve::test
