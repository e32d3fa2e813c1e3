#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "messages/errors.hpp"

namespace varve {

/// Who a file tier is: kept in its folder, so that a disk is known wherever it is mounted.
struct tier_identity {
  /// 128 random bits in 32 lower-case hexadecimal digits; never used again.
  std::string id;
  /// The tier's and the node's names when the identity was given.
  std::string tier;
  std::string node;

  bool operator==(const tier_identity&) const = default;
};

inline constexpr std::string_view tier_identity_file = "tier.identity";
/// Of what this build writes, and the newest that it reads.
inline constexpr uint64_t tier_identity_version = 1;

/// Exactly 32 lower-case hexadecimal digits.
bool valid_tier_id(std::string_view x);

/// The file's text: a line with the format's version, one for each field, one with the CRC32C of all before.
std::string encode(const tier_identity& x);
/// errc::bad_format with a `problem` that says what was expected.
errc decode(std::string_view text, tier_identity& out, std::string& problem);

/// errc::not_found when the folder, or the file in it, is not there; errc::bad_format, errc::device_failed with a
/// `problem`. Blocks: not for reactors, like all of this.
errc read_tier_identity(const std::string& folder, tier_identity& out, std::string& problem);
/// Durably, under its name or not at all, readable by its owner only. False with a `problem`.
bool write_tier_identity(const std::string& folder, const tier_identity& x, std::string& problem);

} // namespace varve
