#pragma once

#include <functional>
#include <memory>
#include <string>

#include <caf/error.hpp>

#include "runtime/catalog/etcd_client.hpp"
#include "runtime/catalog/etcd_election.hpp"
#include "runtime/catalog/etcd_store.hpp"
#include "runtime/catalog/leadership.hpp"

namespace varve {

struct etcd_catalog_options {
  etcd_options connection;
  etcd_election_options election;
  etcd_store_options store;
};

/// The catalog of a cluster as a node has it: it takes part in the election, and the store works while it leads.
class etcd_catalog {
public:
  /// `changed` is told in words what happens (a stable code, a sentence); `hopeless`, once, why this node can never
  /// lead. Both on the loop's thread; they must only pass it on. Null with `problem`: see etcd_client::make. etcd
  /// itself need not be there (yet).
  static std::unique_ptr<etcd_catalog> make(etcd_catalog_options options, std::shared_ptr<leadership> leads,
                                            std::function<void(std::string code, std::string text)> changed,
                                            std::function<void(std::string why)> hopeless, caf::error& problem);
  /// Answers what is under way, resigns.
  ~etcd_catalog();

  catalog_store& store() { return *store_; }

private:
  explicit etcd_catalog(std::unique_ptr<etcd_client> client) : client_(std::move(client)) {}

  std::unique_ptr<etcd_client> client_;
  std::shared_ptr<leadership> leads_;
  std::unique_ptr<etcd_store> store_;
  std::unique_ptr<etcd_election> election_;
};

/// Who a node is to an election, kept in its data folder: made at random when it is not there. Empty with `problem`.
std::string election_identity(const std::string& data_dir, std::string& problem);
/// Where it is kept.
std::string election_identity_file(const std::string& data_dir);

} // namespace varve
