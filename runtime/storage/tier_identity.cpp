#include "runtime/storage/tier_identity.hpp"

#include <algorithm>
#include <charconv>
#include <span>

#include <fmt/format.h>

#include "rdma/checksum.hpp"
#include "runtime/storage/durable_file.hpp"
#include "runtime/storage/random_id.hpp"

namespace varve {

namespace {

constexpr uint64_t identity_bytes_max = 4096;
constexpr std::string_view first_word = "varve-tier ";
constexpr std::string_view last_word = "crc32c ";

// Names come from a checked configuration; a line's end would end the field.
std::string one_line(std::string x) {
  std::replace(x.begin(), x.end(), '\n', ' ');
  return x;
}

bool take_line(std::string_view& text, std::string_view word, std::string& out, std::string& problem) {
  const auto end = text.find('\n');
  if (end == std::string_view::npos || !text.starts_with(word)) {
    problem = fmt::format("expected a line \"{}…\"", word);
    return false;
  }
  out = text.substr(word.size(), end - word.size());
  text.remove_prefix(end + 1);
  return true;
}

} // namespace

bool valid_tier_id(std::string_view x) {
  return x.size() == random_id_letters && x.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

std::string encode(const tier_identity& x) {
  auto text = fmt::format("{}{}\nid {}\ntier {}\nnode {}\n", first_word, tier_identity_version, x.id, one_line(x.tier),
                          one_line(x.node));
  return text + fmt::format("{}{:08x}\n", last_word, crc32c(std::as_bytes(std::span{text})));
}

errc decode(std::string_view text, tier_identity& out, std::string& problem) {
  auto rest = text;
  std::string version, crc;
  uint64_t number = 0;
  if (!take_line(rest, first_word, version, problem))
    return errc::bad_format;
  // The version first: a later format may have another checksum.
  auto [end, error] = std::from_chars(version.data(), version.data() + version.size(), number);
  if (error != std::errc{} || end != version.data() + version.size() || number == 0 || number > tier_identity_version) {
    problem = fmt::format("format version \"{}\", this program knows up to {}", version, tier_identity_version);
    return errc::bad_format;
  }
  if (!take_line(rest, "id ", out.id, problem) || !take_line(rest, "tier ", out.tier, problem) ||
      !take_line(rest, "node ", out.node, problem))
    return errc::bad_format;
  const auto covered = text.substr(0, text.size() - rest.size());
  if (!take_line(rest, last_word, crc, problem))
    return errc::bad_format;
  if (crc != fmt::format("{:08x}", crc32c(std::as_bytes(std::span{covered})))) {
    problem = "its checksum does not match";
    return errc::bad_format;
  }
  if (!valid_tier_id(out.id)) {
    problem = "expected an id of 32 hexadecimal digits";
    return errc::bad_format;
  }
  return errc::none;
}

errc read_tier_identity(const std::string& folder, tier_identity& out, std::string& problem) {
  const auto path = folder + '/' + std::string{tier_identity_file};
  std::string text;
  auto status = read_whole_file(path, identity_bytes_max, text, problem);
  if (status != errc::none)
    return status;
  status = decode(text, out, problem);
  if (status != errc::none)
    problem = path + ": " + problem;
  return status;
}

bool write_tier_identity(const std::string& folder, const tier_identity& x, std::string& problem) {
  return write_file_durably(folder + '/' + std::string{tier_identity_file}, encode(x), problem);
}

} // namespace varve
