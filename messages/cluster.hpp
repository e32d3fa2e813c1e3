#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <caf/timespan.hpp>

#include "messages/types.hpp"

namespace varve {

/// What the nodes of this build say to each other, and how. A node refuses to join others that speak another.
constexpr uint32_t cluster_protocol = 1;

/// A node as its cluster's managers see it.
enum class member_state : uint8_t {
  /// Of the configuration, and never heard by this manager.
  unknown = 0,
  up = 1,
  /// Not heard for a while: perhaps only slow.
  suspect = 2,
  /// Not heard for long, or it said that it stops: what it holds is unreachable.
  down = 3,
};

inline const char* to_string(member_state x) noexcept {
  constexpr const char* names[] = {"unknown", "up", "suspect", "down"};
  return static_cast<size_t>(x) < 4 ? names[static_cast<size_t>(x)] : "unknown";
}

/// What a node says of itself, at joining and then at each heartbeat. Of one life of its process.
struct node_announcement {
  std::string cluster;
  std::string node;
  /// Higher than in any earlier life.
  uint64_t incarnation = 0;
  uint32_t protocol = cluster_protocol;
  std::string version;
  /// "manager,storage,host", as far as they hold.
  std::string roles;
  /// It stops now, in order.
  bool leaving = false;
  /// It manages now, under a number that is higher than that of any who managed before; 0: it does not.
  uint64_t leads = 0;
};

template <class Inspector>
typename Inspector::result_type inspect(Inspector& f, node_announcement& x) {
  return f(caf::meta::type_name("varve::node_announcement"), x.cluster, x.node, x.incarnation, x.protocol, x.version,
           x.roles, x.leaving, x.leads);
}

/// Asks a node with storage to let a reactor of another node do I/O on its shards (runtime/remote).
struct data_access_request {
  std::string node;
  /// Of its process's life.
  uint64_t incarnation = 0;
  uint32_t reactor = 0;
};

template <class Inspector>
typename Inspector::result_type inspect(Inspector& f, data_access_request& x) {
  return f(caf::meta::type_name("varve::data_access_request"), x.node, x.incarnation, x.reactor);
}

/// With what sessions are opened at one reactor: see session_key in runtime/remote/session_keys.hpp.
struct data_key {
  uint64_t id = 0;
  /// 32 bytes. Only ever sent within TLS.
  std::string secret;
  /// Added to the port of the node's data address.
  uint16_t port = 0;
};

template <class Inspector>
typename Inspector::result_type inspect(Inspector& f, data_key& x) {
  return f(caf::meta::type_name("varve::data_key"), x.id, x.secret, x.port);
}

/// The answer: a key for each of the server's reactors, by its number. A volume is on the reactor with the number of
/// the volume modulo theirs.
struct data_access {
  std::vector<data_key> keys;
  /// How long they hold, counted from the answer. Asking again in time gives the same ones a new term.
  caf::timespan term{0};
};

template <class Inspector>
typename Inspector::result_type inspect(Inspector& f, data_access& x) {
  return f(caf::meta::type_name("varve::data_access"), x.keys, x.term);
}

/// One line of `cluster status`.
struct member_info {
  std::string node;
  std::string roles;
  member_state state = member_state::unknown;
  /// 0: never heard.
  uint64_t incarnation = 0;
  std::string version;
  /// Since it was last heard.
  caf::timespan silent{0};
  /// "HOST:PORT".
  std::string control, data;
  /// Lives of it that have joined this manager.
  uint64_t joins = 0;
};

template <class Inspector>
typename Inspector::result_type inspect(Inspector& f, member_info& x) {
  return f(caf::meta::type_name("varve::member_info"), x.node, x.roles, x.state, x.incarnation, x.version, x.silent,
           x.control, x.data, x.joins);
}

} // namespace varve
