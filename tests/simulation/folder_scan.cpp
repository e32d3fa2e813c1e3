#include "tests/simulation/folder_scan.hpp"

#include <cstring>

#include "runtime/storage/file_store.hpp"
#include "runtime/storage/shard_format.hpp"

namespace varve::test {

tier_scan scan_folder(const simulated_disk& disk, const std::string& folder) {
  tier_scan result;
  for (auto& file : disk.list(folder)) {
    if (!parse_shard_file_name(file))
      continue;
    const auto path = folder + "/" + file;
    const auto bytes = disk.contents(path);
    header_record slots[2];
    if (bytes.size() < sizeof slots) {
      result.problems.push_back(path);
      continue;
    }
    std::memcpy(slots, bytes.data(), sizeof slots);
    auto chosen = choose_header(slots[0], slots[1]);
    if (chosen.status != errc::none) {
      result.problems.push_back(path);
      continue;
    }
    result.shards.push_back(header_of(slots[chosen.slot]));
    result.allocated_bytes.push_back(disk.allocated_bytes(path));
  }
  return result;
}

} // namespace varve::test
