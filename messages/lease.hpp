#pragma once

#include <string>
#include <vector>

#include <caf/timespan.hpp>

#include "messages/types.hpp"
#include "messages/volume.hpp"

namespace varve {

/// read is shared; write excludes read and write of other holders; migration is one per shard, beside read or write.
enum class lease_mode : uint8_t { read = 0, write = 1, migration = 2 };

inline const char* to_string(lease_mode x) noexcept {
  return x == lease_mode::read ? "read" : x == lease_mode::write ? "write" : "migration";
}

/// Asks for leases on a range of shards of one volume, for one holder.
struct lease_request {
  holder_id holder;
  shard_id first;
  uint64_t count = 1;
  lease_mode mode = lease_mode::read;
  /// What the holder would like; the answer may be shorter.
  caf::timespan term{0};
};

template <class Inspector>
typename Inspector::result_type inspect(Inspector& f, lease_request& x) {
  return f(caf::meta::type_name("varve::lease_request"), x.holder, x.first, x.count, x.mode, x.term);
}

/// The right to use one shard for a while, as its holder knows it. Of shards that do not exist a single read lease
/// covers a whole run (`count`): their reads give zeros.
struct lease_grant {
  lease_id id;
  holder_id holder;
  shard_home home;
  uint64_t count = 1;
  lease_mode mode = lease_mode::read;
  /// Storage refuses any epoch below the highest it has seen.
  epoch fence;
  /// The holder counts from when it asked, the server from when it answered.
  caf::timespan term{0};
};

template <class Inspector>
typename Inspector::result_type inspect(Inspector& f, lease_grant& x) {
  return f(caf::meta::type_name("varve::lease_grant"), x.id, x.holder, x.home, x.count, x.mode, x.fence, x.term);
}

/// The answer to one keep-alive, which renews all leases of a holder.
struct lease_renewal {
  caf::timespan term{0};
  uint64_t renewed = 0;
  /// What the manager holds for this holder, so that a holder who knows another number asks again: changes with
  /// every grant, release and break.
  uint64_t revision = 0;
};

template <class Inspector>
typename Inspector::result_type inspect(Inspector& f, lease_renewal& x) {
  return f(caf::meta::type_name("varve::lease_renewal"), x.term, x.renewed, x.revision);
}

/// One lease for `lease ls`.
struct lease_info {
  lease_grant grant;
  caf::timespan remaining{0};
  /// "granted" or "revoking".
  std::string state;
};

template <class Inspector>
typename Inspector::result_type inspect(Inspector& f, lease_info& x) {
  return f(caf::meta::type_name("varve::lease_info"), x.grant, x.remaining, x.state);
}

} // namespace varve
