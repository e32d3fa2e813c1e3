#pragma once

#include <functional>
#include <memory>
#include <string>

#include "runtime/catalog/catalog_store.hpp"
#include "runtime/catalog/leadership.hpp"
#include "runtime/catalog/sqlite_store.hpp"
#include "runtime/config/node_config.hpp"

namespace varve {

/// A node's catalog, of the kind that its config names.
struct node_catalog {
  std::shared_ptr<catalog_store> store;
  /// The same, where it is in a file; else null.
  std::shared_ptr<sqlite_store> file;
  /// Null: the catalog is this node's own, and so is managing.
  std::shared_ptr<varve::leadership> leadership;
};

/// Opens it; blocks for SQLite only: an etcd that is not there (yet) is waited for by who manages. Without a store,
/// `problem` says why. `publish` is told of elections; `hopeless`, on another thread, why this node can never lead:
/// both must only pass it on.
node_catalog open_catalog(const node_config& config, std::function<void(std::string code, std::string text)> publish,
                          std::function<void(std::string why)> hopeless, std::string& problem);

/// Where a node of a cluster keeps the ids of its own tiers, since the catalog is elsewhere, or is not there yet when
/// tiers are looked at. Blocks. Null with a problem.
std::shared_ptr<sqlite_store> open_tier_ids(const node_config& config, std::string& problem);

} // namespace varve
