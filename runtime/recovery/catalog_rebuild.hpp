#pragma once

#include <map>
#include <string>
#include <vector>

#include "runtime/recovery/rebuild_rules.hpp"
#include "runtime/recovery/stopped_node.hpp"

namespace varve {

/// Looks at every file tier of a node, and at the catalog in place where it can be read. `notes` are for people.
rebuild_evidence gather(const stopped_node& node, std::vector<std::string>& notes);

/// Makes the catalog that the rules gave and puts it in the place of the old one, which is `aside` then. Tiers whose
/// folder says nothing get an identity.
caf::error write_rebuilt(const stopped_node& node, const rebuild_evidence& evidence, const rebuilt_catalog& made,
                         std::string& aside);

struct restored {
  catalog_backup_info backup;
  /// Of the catalog that was in place; 0: there was none that could be read.
  uint64_t replaced_revision = 0;
  std::string aside;
  /// Homes whose file is not where the backup says, so that they cannot be served: the shard has moved since, or is
  /// lost.
  uint64_t homes = 0, homes_missing = 0;
};

/// Puts a backup in the place of the catalog. errc::conflict when the one in place is newer, or cannot be read, and not
/// `force`. The counters are raised above everything that headers have seen since.
caf::error restore(const stopped_node& node, const std::string& file, bool force, restored& out);

} // namespace varve
