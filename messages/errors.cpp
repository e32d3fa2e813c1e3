#include "messages/errors.hpp"

#include <caf/exit_reason.hpp>
#include <caf/message.hpp>
#include <caf/sec.hpp>
#include <caf/string_algorithms.hpp>

namespace varve {

namespace {
constexpr auto category = caf::atom("varve");
}

const char* to_string(errc code) noexcept {
  switch (code) {
  case errc::none: return "none";
  case errc::lease_held: return "lease_held";
  case errc::stale_epoch: return "stale_epoch";
  case errc::shard_moved: return "shard_moved";
  case errc::not_found: return "not_found";
  case errc::already_exists: return "already_exists";
  case errc::invalid_argument: return "invalid_argument";
  case errc::tier_full: return "tier_full";
  case errc::device_failed: return "device_failed";
  case errc::checksum_mismatch: return "checksum_mismatch";
  case errc::unavailable: return "unavailable";
  case errc::conflict: return "conflict";
  case errc::volume_attached: return "volume_attached";
  case errc::volume_detached: return "volume_detached";
  case errc::volatile_tier: return "volatile_tier";
  case errc::bad_format: return "bad_format";
  case errc::cancelled: return "cancelled";
  case errc::timed_out: return "timed_out";
  case errc::shard_failed: return "shard_failed";
  case errc::needs_confirmation: return "needs_confirmation";
  case errc::unsupported: return "unsupported";
  case errc::limit_reached: return "limit_reached";
  case errc::read_only: return "read_only";
  case errc::deposed: return "deposed";
  }
  return "unknown";
}

caf::error make_error(errc code, std::string context) {
  return {static_cast<uint8_t>(code), category, caf::make_message(std::move(context))};
}

errc code_of(const caf::error& error) noexcept {
  if (!error)
    return errc::none;
  if (error.category() == category)
    return static_cast<errc>(error.code());
  if (error == caf::sec::request_timeout)
    return errc::timed_out;
  return errc::unavailable;
}

std::string context_of(const caf::error& error) {
  if (!error)
    return {};
  if (error.category() == category && error.context().match_elements<std::string>())
    return error.context().get_as<std::string>(0);
  return caf::to_string(error);
}

} // namespace varve
