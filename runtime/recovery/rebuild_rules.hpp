#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "messages/migration.hpp"
#include "messages/volume.hpp"
#include "runtime/recovery/catalog_extract.hpp"
#include "runtime/storage/shard.hpp"

namespace varve {

/// A shard's file as its header tells.
struct found_file {
  std::string tier;
  shard_header header;
};

struct rebuild_evidence {
  std::vector<found_file> files;
  /// Files whose headers cannot be read, each as a sentence.
  std::vector<std::string> unreadable;
  /// Of the tiers that were looked at, by name: their ids.
  std::map<std::string, std::string> tiers;
  /// The newest that was found; empty when there is none.
  catalog_extract known;
};

struct rebuilt_catalog {
  std::vector<volume_record> volumes;
  std::vector<shard_home> homes;
  /// To be taken back when the node starts: their sources are sealed, and what replaced them is nowhere.
  std::vector<migration_record> to_take_back;
  std::map<std::string, std::string> tiers;
  /// Carried over as they are: tiers that were given up.
  std::vector<catalog_entry> others;
  uint64_t incarnation = 0, next_volume = 1, next_migration = 1, next_holder = 1;

  uint64_t files = 0;
  /// What was left out or made up, and why.
  std::vector<std::string> notes;
  /// What may lose data, or cannot be decided by the rules: a person must look before anything is written.
  std::vector<std::string> conflicts;
};

/// Makes a catalog from shards' headers.
///
/// Of several files of one shard the home is that of the highest generation whose predecessor is sealed for it or gone:
/// a move makes its sink whole while the source still takes writes, and seals the source only when the sink has them
/// all. An unfinished sink is never a home. Counters begin above everything that any header has seen, so that no fence
/// goes backwards and no number is given twice.
rebuilt_catalog rebuild(const rebuild_evidence& x);

} // namespace varve
