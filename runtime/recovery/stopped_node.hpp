#pragma once

#include <memory>
#include <string>

#include <caf/error.hpp>

#include "runtime/catalog/sqlite_store.hpp"
#include "runtime/config/node_config.hpp"

namespace varve {

/// Where a node of a cluster that has no catalog file keeps the ids of its tiers.
std::string tier_ids_folder(const node_config& config);

/// A node whose varved does not run, kept from running: what is done to its catalog and its tiers by hand. All of it
/// blocks.
class stopped_node {
public:
  /// Takes the lock that varved holds. Null with errc::unavailable while it runs, errc::not_found when there is no such
  /// node, errc::unsupported when it is by itself with its catalog in etcd, errc::device_failed.
  static std::unique_ptr<stopped_node> take(node_config config, caf::error& problem);
  ~stopped_node();
  stopped_node(const stopped_node&) = delete;
  stopped_node& operator=(const stopped_node&) = delete;

  const node_config& config() const noexcept { return config_; }
  /// Its own catalog, or, without, what it knows of its tiers.
  std::string catalog_path() const { return folder_ + "/catalog.db"; }
  /// In a cluster: the catalog is not in its folder.
  bool knows_tiers_only() const { return folder_ != config_.data_dir; }
  bool has_catalog() const;

  /// The catalog in place; errc::not_found when there is none: none is made.
  std::shared_ptr<sqlite_store> open_catalog(caf::error& problem) const;

  /// An empty catalog beside the one in place, which `replace` puts there.
  std::shared_ptr<sqlite_store> make_catalog(caf::error& problem) const;
  /// For a new catalog that comes from elsewhere, at `path`.
  caf::error prepare_new(std::string& path) const;
  std::string new_catalog_path() const { return new_folder() + "/catalog.db"; }
  /// The one that is there.
  std::shared_ptr<sqlite_store> open_new(caf::error& problem) const;

  /// Durably puts the new catalog in the place of the old one, which nobody has open, as nobody has the new one.
  /// `aside` is where the old one is then; empty when there was none. A crash leaves the old one, or none and both
  /// aside.
  caf::error replace(std::string& aside) const;

private:
  stopped_node(node_config config, int lock);
  std::string new_folder() const { return config_.data_dir + "/catalog.new"; }

  node_config config_;
  std::string folder_; // of catalog_path
  int lock_;
};

} // namespace varve
