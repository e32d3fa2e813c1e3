#pragma once

#include <string>
#include <vector>

#include <caf/timespan.hpp>

#include "messages/types.hpp"

namespace varve {

/// One actor of the tree, alive or dead.
struct actor_info {
  /// Where it is in the hierarchy: "node/management/volume/vm1".
  std::string path;
  /// Its run-time name: "varve.volume".
  std::string type;
  bool alive = true;
  uint64_t restarts = 0;
  /// Since it was last started.
  caf::timespan age{0};
  /// Why it last died; empty if it never did.
  std::string last_error;
};

template <class Inspector>
typename Inspector::result_type inspect(Inspector& f, actor_info& x) {
  return f(caf::meta::type_name("varve::actor_info"), x.path, x.type, x.alive, x.restarts, x.age, x.last_error);
}

/// One finding of `status`: a stable code such as TIER_FAILED, and what it means here.
struct health_finding {
  std::string code;
  /// "warning" or "error".
  std::string severity;
  std::string text;
};

template <class Inspector>
typename Inspector::result_type inspect(Inspector& f, health_finding& x) {
  return f(caf::meta::type_name("varve::health_finding"), x.code, x.severity, x.text);
}

/// `varve status`, one screen.
struct node_status {
  std::string node;
  std::string version;
  caf::timespan up_time{0};
  /// "ok", "warning", "error" or "starting".
  std::string health;
  std::vector<health_finding> findings;
  uint64_t volumes = 0, attached_volumes = 0, shards = 0, leases = 0, migrations_running = 0;
  uint64_t manager_incarnation = 0;
  /// "io_uring" or "threads".
  std::string ring;
};

template <class Inspector>
typename Inspector::result_type inspect(Inspector& f, node_status& x) {
  return f(caf::meta::type_name("varve::node_status"), x.node, x.version, x.up_time, x.health, x.findings, x.volumes,
           x.attached_volumes, x.shards, x.leases, x.migrations_running, x.manager_incarnation, x.ring);
}

/// Something that happened and that an operator may ask for later: checksum mismatch, restart, fence, failed sync.
struct event {
  /// Seconds since 1970, UTC.
  uint64_t at = 0;
  /// A stable code: CHECKSUM_MISMATCH, ACTOR_RESTARTED, ...
  std::string code;
  std::string text;
};

template <class Inspector>
typename Inspector::result_type inspect(Inspector& f, event& x) {
  return f(caf::meta::type_name("varve::event"), x.at, x.code, x.text);
}

} // namespace varve
