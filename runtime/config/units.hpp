#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace varve {

/// Bytes from "4096", "20GiB", "1.5 TiB", "64K" or "1GB". K, M, G, T, P are powers of 1024, as for qemu-img and fio,
/// and the same as KiB, MiB, ...; KB, MB, ... are powers of 1000. Nothing when it is no size, no whole number of bytes
/// or over 64 bits: `problem` then says why.
std::optional<uint64_t> parse_size(std::string_view text, std::string& problem);

/// The shortest text that parse_size reads as exactly this: "20GiB", "4097B".
std::string format_size(uint64_t bytes);

/// For people: three digits and a unit ("1.46 GiB"); not exact.
std::string format_size_short(double bytes);

/// From "5ms", "45s", "1.5h", "0". Units: ns, us, ms, s, m (or min), h, d. Nothing when it is no duration, finer than a
/// nanosecond or over 292 years: `problem` then says why.
std::optional<std::chrono::nanoseconds> parse_duration(std::string_view text, std::string& problem);

/// The shortest text that parse_duration reads as exactly this: "5ms", "90s".
std::string format_duration(std::chrono::nanoseconds x);

/// For people: "1.23 ms", "45 s", "2 h 5 min"; not exact.
std::string format_duration_short(std::chrono::nanoseconds x);

} // namespace varve
