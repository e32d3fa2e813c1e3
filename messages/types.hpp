#pragma once

#include <chrono>
#include <compare>
#include <cstdint>
#include <functional>
#include <string>

#include <caf/meta/type_name.hpp>

namespace varve {

/// An integer that is only itself: a volume_id is not an epoch. (After Redpanda's named_type.)
template <class T, class Tag>
class named {
public:
  using value_type = T;

  constexpr named() noexcept = default;
  constexpr explicit named(T value) noexcept : value_(value) {}
  constexpr T value() const noexcept { return value_; }
  constexpr auto operator<=>(const named&) const noexcept = default;

  template <class Inspector>
  friend typename Inspector::result_type inspect(Inspector& f, named& x) {
    return f(x.value_);
  }

private:
  T value_{};
};

/// A volume, for ever: numbers are never used again. 0 is none.
using volume_id = named<uint64_t, struct volume_id_tag>;
/// The position of a shard in its volume: byte offset divided by the volume's shard size.
using shard_index = named<uint64_t, struct shard_index_tag>;
/// Counts the homes that a shard has had; the catalog says which is current. 0 is none.
using generation = named<uint64_t, struct generation_tag>;
/// The fence: manager incarnation (upper 32 bits) and a counter. Storage refuses what is lower than the highest it saw.
using epoch = named<uint64_t, struct epoch_tag>;
/// One grant of a lease, unique per manager incarnation.
using lease_id = named<uint64_t, struct lease_id_tag>;
/// One migration, for ever.
using migration_id = named<uint64_t, struct migration_id_tag>;
/// Who holds leases: one attachment of a volume at a host. A restarted agent of the same attachment is the same holder.
using holder_id = named<uint64_t, struct holder_id_tag>;

/// One shard of one volume.
struct shard_id {
  volume_id volume;
  shard_index index;

  constexpr auto operator<=>(const shard_id&) const noexcept = default;
};

template <class Inspector>
typename Inspector::result_type inspect(Inspector& f, shard_id& x) {
  return f(caf::meta::type_name("varve::shard_id"), x.volume, x.index);
}

/// The checksummed unit, and the unit of atomicity at `kill -9`, in bytes.
inline constexpr uint64_t block_size = 4096;
inline constexpr uint64_t shard_size_min = 256ull << 10;
inline constexpr uint64_t shard_size_max = 1ull << 30;
inline constexpr uint64_t shard_size_default = 4ull << 20;
inline constexpr uint64_t volume_size_max = 64ull << 40;

/// Time since boot, also while suspended (CLOCK_BOOTTIME), in nanoseconds; virtual in simulation. What terms are
/// counted in.
using boot_time = std::chrono::nanoseconds;

} // namespace varve

template <class T, class Tag>
struct std::hash<varve::named<T, Tag>> {
  size_t operator()(varve::named<T, Tag> x) const noexcept { return std::hash<T>{}(x.value()); }
};

template <>
struct std::hash<varve::shard_id> {
  size_t operator()(varve::shard_id x) const noexcept {
    return std::hash<uint64_t>{}(x.volume.value() * 0x9e3779b97f4a7c15ull ^ x.index.value());
  }
};
