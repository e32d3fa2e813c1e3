#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include <fcntl.h>
#include <unistd.h>

#include "runtime/storage/file_store.hpp"

namespace varve {

bool sweep_unfinished_shards(const std::string& directory, std::string& problem) {
  namespace fs = std::filesystem;
  std::vector<fs::path> leftovers;
  std::error_code error;
  for (fs::directory_iterator i{directory, error}, end; !error && i != end; i.increment(error)) {
    auto name = i->path().filename().string();
    if (!name.ends_with(unfinished_suffix))
      continue;
    name.resize(name.size() - unfinished_suffix.size());
    // Whatever else ends so is not ours.
    if (parse_shard_file_name(name) && i->symlink_status().type() == fs::file_type::regular)
      leftovers.push_back(i->path());
  }
  if (error) {
    problem = directory + ": " + error.message();
    return false;
  }
  for (const auto& path : leftovers)
    if (!fs::remove(path, error) && error) {
      problem = path.string() + ": " + error.message();
      return false;
    }
  return true;
}

std::vector<shard_header> scan_shard_files(const std::string& directory, std::vector<std::string>& problems) {
  namespace fs = std::filesystem;
  std::vector<shard_header> result;
  std::error_code error;
  for (fs::directory_iterator i{directory, error}, end; !error && i != end; i.increment(error)) {
    auto path = i->path();
    if (path.extension() != ".shard")
      continue;
    auto name = parse_shard_file_name(path.filename().string());
    if (!name) {
      problems.push_back(path.string() + ": not the name of a shard file");
      continue;
    }
    auto fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
      problems.push_back(path.string() + ": " + std::strerror(errno));
      continue;
    }
    header_record slots[2];
    auto got = ::pread(fd, slots, sizeof slots, 0);
    ::close(fd);
    if (got != static_cast<ssize_t>(sizeof slots)) {
      problems.push_back(path.string() + ": too short for its headers");
      continue;
    }
    auto chosen = choose_header(slots[0], slots[1]);
    if (chosen.status != errc::none) {
      problems.push_back(path.string() + ": no valid header, or one of a newer version");
      continue;
    }
    auto header = header_of(slots[chosen.slot]);
    if (header.id != name->id || header.generation != name->generation) {
      problems.push_back(path.string() + ": its header names another shard");
      continue;
    }
    result.push_back(header);
  }
  if (error)
    problems.push_back(directory + ": " + error.message());
  // Folders have no order of their own.
  std::sort(result.begin(), result.end(), [](const shard_header& a, const shard_header& b) {
    return std::tie(a.id, a.generation) < std::tie(b.id, b.generation);
  });
  return result;
}

} // namespace varve
