#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "messages/errors.hpp"

namespace varve {

/// Writes a file durably: under another name, synced, renamed, the folder synced. Mode 0600; replaces what was there.
/// False with a `problem`.
bool write_file_durably(const std::string& path, std::string_view bytes, std::string& problem);
/// All of a file of at most `bytes_max`. errc::not_found, errc::bad_format when it is longer, errc::device_failed.
errc read_whole_file(const std::string& path, uint64_t bytes_max, std::string& out, std::string& problem);
/// Makes the names in a folder durable. False with a `problem`.
bool sync_folder_of(const std::string& path, std::string& problem);

} // namespace varve
