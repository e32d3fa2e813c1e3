#include "runtime/varved_catalog.hpp"

#include <filesystem>

#include <fmt/format.h>
#include <sys/stat.h>

#include "messages/errors.hpp"
#include "runtime/catalog/etcd_catalog.hpp"
#include "runtime/recovery/stopped_node.hpp"

namespace varve {

namespace {

// Of one that would be empty beside the folder's shards: they would be taken for rubbish. Empty: none of that.
std::string wrong_kind(const node_config& config) {
  const auto file = config.data_dir + "/catalog.db", identity = election_identity_file(config.data_dir);
  const bool is_etcd = config.catalog.kind == catalog_kind::etcd;
  const bool has_file = std::filesystem::exists(file), has_identity = std::filesystem::exists(identity);
  constexpr auto text =
    "catalog: kind is \"{}\", but {} is there: this folder's volumes are in {}; give this node another "
    "--data-dir, or kind = \"{}\"";
  if (is_etcd && has_file)
    return fmt::format(text, "etcd", file, "it", "sqlite");
  if (!is_etcd && has_identity && !has_file)
    return fmt::format(text, "sqlite", identity, "etcd", "etcd");
  return {};
}

} // namespace

node_catalog open_catalog(const node_config& config, std::function<void(std::string, std::string)> publish,
                          std::function<void(std::string)> hopeless, std::string& problem) {
  node_catalog x;
  problem = wrong_kind(config);
  if (!problem.empty())
    return x;
  caf::error refused;
  const auto& c = config.catalog;
  if (c.kind == catalog_kind::sqlite) {
    x.store = x.file = sqlite_store::open({config.data_dir}, refused);
  } else {
    etcd_catalog_options o;
    o.connection = {c.endpoints, c.tls_ca, c.tls_cert, c.tls_key, c.call_timeout};
    o.store.prefix = c.prefix;
    o.store.resolve_for = c.resolve_timeout;
    o.election.prefix = c.prefix;
    o.election.name = config.name;
    o.election.term = std::chrono::duration_cast<std::chrono::seconds>(c.leader_term);
    o.election.identity = election_identity(config.data_dir, problem);
    if (o.election.identity.empty())
      return x;
    x.leadership = std::make_shared<leadership>();
    std::shared_ptr<etcd_catalog> cluster =
      etcd_catalog::make(std::move(o), x.leadership, std::move(publish), std::move(hopeless), refused);
    if (cluster)
      x.store = {cluster, &cluster->store()};
  }
  if (!x.store)
    problem = fmt::format("catalog: {}: {}", to_string(code_of(refused)), context_of(refused));
  return x;
}

std::shared_ptr<sqlite_store> open_tier_ids(const node_config& config, std::string& problem) {
  const auto folder = tier_ids_folder(config);
  std::error_code error;
  if (std::filesystem::create_directories(folder, error))
    ::chmod(folder.c_str(), 0700);
  caf::error refused;
  auto x = error ? nullptr : sqlite_store::open({folder}, refused);
  if (!x)
    problem = error ? folder + ": " + error.message() : folder + ": " + context_of(refused);
  return x;
}

} // namespace varve
