#pragma once

#include <string>
#include <vector>

#include "messages/types.hpp"

namespace varve {

/// How far data may be trusted to shared places; a hard filter for placement.
enum class sensitivity : uint8_t { low = 0, normal = 1, high = 2 };

/// What a volume's user says of its I/O: what new shards are placed by as long as nothing was seen of it.
enum class workload_profile : uint8_t { balanced = 0, latency = 1, capacity = 2 };

/// What `volume create` asks for.
struct volume_spec {
  /// 1 to 63 of a-z, A-Z, 0-9, '-', '_', '.'; starts with a letter or digit.
  std::string name;
  /// A multiple of 512, at most volume_size_max.
  uint64_t size_bytes = 0;
  /// A power of two within shard_size_min..shard_size_max; 0: the configured default.
  uint64_t shard_size = 0;
  /// Lives in memory, is lost when the node stops. Never set unless asked for.
  bool is_volatile = false;
  /// Where new shards go; empty: the placement rule decides.
  std::string tier;
  varve::sensitivity sensitive = sensitivity::normal;
  workload_profile profile = workload_profile::balanced;
};

template <class Inspector>
typename Inspector::result_type inspect(Inspector& f, volume_spec& x) {
  return f(caf::meta::type_name("varve::volume_spec"), x.name, x.size_bytes, x.shard_size, x.is_volatile, x.tier,
           x.sensitive, x.profile);
}

/// One host at which a volume is attached, and as whom it holds leases there.
struct volume_attachment {
  /// New for each attach.
  holder_id holder;
  /// The node's name.
  std::string host;

  bool operator==(const volume_attachment&) const = default;
};

template <class Inspector>
typename Inspector::result_type inspect(Inspector& f, volume_attachment& x) {
  return f(caf::meta::type_name("varve::volume_attachment"), x.holder, x.host);
}

/// A volume as the catalog keeps it.
struct volume_record {
  volume_id id;
  volume_spec spec;
  /// Seconds since 1970, UTC: for people only.
  uint64_t created_at = 0;
  /// More than one only where that was asked for: a VM on its way between two hosts.
  std::vector<volume_attachment> attachments;
  /// Deletion has begun: shards are being removed; the name is free already.
  bool removing = false;

  bool attached() const noexcept { return !attachments.empty(); }
  /// Null: no attachment of that holder, or at that host.
  const volume_attachment* of(holder_id holder) const noexcept {
    for (const auto& x : attachments)
      if (x.holder == holder)
        return &x;
    return nullptr;
  }
  const volume_attachment* at(const std::string& host) const noexcept {
    for (const auto& x : attachments)
      if (x.host == host)
        return &x;
    return nullptr;
  }
};

template <class Inspector>
typename Inspector::result_type inspect(Inspector& f, volume_record& x) {
  return f(caf::meta::type_name("varve::volume_record"), x.id, x.spec, x.created_at, x.attachments, x.removing);
}

/// One volume for listings.
struct volume_info {
  volume_record record;
  /// Shards that exist (were written once).
  uint64_t shards = 0;
  /// What the volume's shards take on all tiers together.
  uint64_t allocated_bytes = 0;
  /// Empty while detached: nbd+unix:///NAME?socket=PATH.
  std::string uri;
  /// Clients of NBD.
  uint64_t connections = 0;
  /// False: somebody was not there to be asked (the volume's actor or one of its tiers), so that `allocated_bytes` is
  /// not known, nor is `shards` if it is 0. A volume without shards has no tiers to ask.
  bool contents_known = false;
  /// False: the volume is attached, but its host or its port was not there to be asked, so that `connections` is not
  /// known, nor is `uri` if it is empty.
  bool clients_known = false;

  bool shards_known() const noexcept { return contents_known || shards != 0; }
  bool uri_known() const noexcept { return clients_known || !uri.empty(); }
};

template <class Inspector>
typename Inspector::result_type inspect(Inspector& f, volume_info& x) {
  return f(caf::meta::type_name("varve::volume_info"), x.record, x.shards, x.allocated_bytes, x.uri, x.connections,
           x.contents_known, x.clients_known);
}

/// Where a VM finds an attached volume.
struct attachment {
  volume_id volume;
  holder_id holder;
  std::string uri;
  std::string socket_path;
  /// The node at which it is.
  std::string host;
};

template <class Inspector>
typename Inspector::result_type inspect(Inspector& f, attachment& x) {
  return f(caf::meta::type_name("varve::attachment"), x.volume, x.holder, x.uri, x.socket_path, x.host);
}

/// Where one shard durably lives. `of` generation 0 and an empty tier: it was never written and does not exist.
struct shard_home {
  shard_id id;
  std::string tier;
  generation of;
  /// The epoch known to the catalog when the home was made; storage may know a higher one.
  epoch fence;

  bool exists() const noexcept { return of.value() != 0; }
};

template <class Inspector>
typename Inspector::result_type inspect(Inspector& f, shard_home& x) {
  return f(caf::meta::type_name("varve::shard_home"), x.id, x.tier, x.of, x.fence);
}

/// The homes of a range of shards: those that exist, in order; what is between them does not exist. `end` says how far
/// the answer reaches (exclusive): also beyond what was asked, while nothing exists there.
struct shard_map_part {
  shard_index begin;
  shard_index end;
  std::vector<shard_home> homes;
};

template <class Inspector>
typename Inspector::result_type inspect(Inspector& f, shard_map_part& x) {
  return f(caf::meta::type_name("varve::shard_map_part"), x.begin, x.end, x.homes);
}

/// One shard for `shard ls`.
struct shard_info {
  shard_home home;
  uint64_t offset = 0;
  uint64_t size = 0;
  uint64_t allocated_bytes = 0;
  bool active = false;
  uint64_t reads = 0;
  uint64_t writes = 0;
  /// "read", "write", or empty.
  std::string lease;
  /// 0: none.
  migration_id migration;
};

template <class Inspector>
typename Inspector::result_type inspect(Inspector& f, shard_info& x) {
  return f(caf::meta::type_name("varve::shard_info"), x.home, x.offset, x.size, x.allocated_bytes, x.active, x.reads,
           x.writes, x.lease, x.migration);
}

/// A page of `shard ls`; `next` is where to go on, 0 at the end.
struct shard_page {
  std::vector<shard_info> shards;
  shard_index next;
};

template <class Inspector>
typename Inspector::result_type inspect(Inspector& f, shard_page& x) {
  return f(caf::meta::type_name("varve::shard_page"), x.shards, x.next);
}

} // namespace varve
