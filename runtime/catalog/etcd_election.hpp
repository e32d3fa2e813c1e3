#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

namespace varve {

class etcd_client;

struct etcd_election_options {
  /// Of all keys of the cluster; ends with '/'.
  std::string prefix;
  /// Of this node, for people.
  std::string name;
  /// What only one process has at a time, also after a restart: a leader of this identity is our dead predecessor, and
  /// is deposed at once. Empty: its lease is waited for.
  std::string identity;
  /// How long a leader that is not heard of stays one; whole seconds. etcd may grant longer ones.
  std::chrono::seconds term{5};
};

/// The right to lead: good as long as the key was created at that revision.
struct etcd_leadership {
  std::string key;
  uint64_t created = 0;
  /// What is written with it goes when leadership ends.
  int64_t lease = 0;
  /// Higher than any leader's before.
  uint64_t incarnation = 0;
  /// Since boot, also while suspended: until when nobody else can lead, if this machine's clock and etcd's agree within
  /// a tenth of the term.
  std::chrono::nanoseconds until{0};
};

/// Called on the loop's thread; must only pass it on.
struct etcd_election_events {
  std::function<void(const etcd_leadership&)> leading;
  /// No more, and why. Before anybody else can lead, if this machine's clock and etcd's agree within a tenth of the
  /// term; it is tried again.
  std::function<void(const std::string& why)> lost;
  /// Not leading, and why: who leads, or what is wrong with etcd. Again when that changes.
  std::function<void(const std::string& why)> waiting;
  /// It leads for longer. May be empty.
  std::function<void(const etcd_leadership&)> renewed;
};

/// Takes part in the election of the cluster's leader for as long as it lives. The leader's key belongs to a lease that
/// the leader keeps alive; the others watch the key.
class etcd_election {
public:
  /// The client outlives the election.
  etcd_election(etcd_client& client, etcd_election_options options, etcd_election_events events);
  /// Resigns, so that another can lead at once; waits for etcd's answer, at most the client's call_timeout. No event
  /// comes from then on.
  ~etcd_election();

private:
  class core;
  etcd_client& client_;
  std::shared_ptr<core> core_;
};

} // namespace varve
