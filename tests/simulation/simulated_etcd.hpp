#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "runtime/catalog/catalog_store.hpp"
#include "runtime/catalog/leadership.hpp"
#include "runtime/catalog/memory_store.hpp"
#include "runtime/reactor/simulated_ring.hpp"

namespace varve::test {

class simulated_candidate;

struct etcd_options {
  /// How long a leader that is not heard of stays one.
  boot_time term{std::chrono::seconds{5}};
  boot_time delay_min{std::chrono::microseconds{200}}, delay_max{std::chrono::milliseconds{4}};
  /// How long a call that is not carried out is tried, and how long it is asked whether a commit was made.
  boot_time retry_for{std::chrono::seconds{4}}, resolve_for{std::chrono::seconds{30}};
};

/// A catalog store that all managers share, and the election of the one that may write to it, as etcd_store and
/// etcd_election behave: every transaction compares the leader's key. It is never lost itself; nodes are cut off from
/// it.
class simulated_etcd {
public:
  explicit simulated_etcd(simulated_world& world, etcd_options options = {}) : world_(world), options_(options) {}
  simulated_etcd(const simulated_etcd&) = delete;

  void cut(const std::string& node, bool on);
  boot_time next_event() const;
  bool deliver();

  /// Called with every batch that was made, before anybody is told.
  std::function<void(const catalog_batch&)> on_commit;

  std::shared_ptr<memory_store_contents> contents = std::make_shared<memory_store_contents>();
  /// Who leads; empty: nobody.
  std::string leader;
  uint64_t elections = 0, refused_deposed = 0;

private:
  friend class simulated_candidate;
  friend class simulated_catalog;

  struct call {
    boot_time at{0};
    uint64_t sequence = 0;
    std::weak_ptr<simulated_candidate> by;
    bool is_commit = false;
    catalog_batch batch;
    std::string prefix, after;
    size_t limit = 0;
    catalog_store::callback done;
    boot_time give_up{0};
    /// It was carried out, and this is on its way back.
    std::unique_ptr<catalog_result> result;
  };

  boot_time delay();
  void ask(call x);
  void carry_out(call& x);
  catalog_result apply(const call& x);

  simulated_world& world_;
  etcd_options options_;
  memory_store store_{contents};
  std::set<std::string> cut_;
  std::vector<call> calls_;
  std::vector<std::weak_ptr<simulated_candidate>> candidates_;
  uint64_t sequence_ = 0;
  // The leader's key.
  uint64_t created_ = 0;
  boot_time ends_{0};
};

/// What one life of a node takes part with.
class simulated_candidate : public std::enable_shared_from_this<simulated_candidate> {
public:
  static std::shared_ptr<simulated_candidate> make(simulated_etcd& at, std::string node, simulated_clock clock);

  std::shared_ptr<leadership> leads() const { return leadership_; }
  std::unique_ptr<catalog_store> store();
  void pause(bool on) { paused_ = on; }
  void die() { dead_ = true; }

private:
  friend class simulated_etcd;
  friend class simulated_catalog;

  void tick();

  simulated_etcd* etcd_ = nullptr;
  std::string node_;
  simulated_clock clock_;
  std::shared_ptr<leadership> leadership_ = std::make_shared<leadership>();
  uint64_t created_ = 0; // of the key, while it leads
  boot_time until_{0};   // by its own clock
  boot_time next_{0};    // its next word to etcd, by the world's
  bool paused_ = false, dead_ = false;
};

} // namespace varve::test
