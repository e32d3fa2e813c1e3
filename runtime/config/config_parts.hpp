#pragma once

#include <string>
#include <string_view>

#include "runtime/config/node_config.hpp"
#include "runtime/config/table_reader.hpp"

// The parts of reading a configuration that its files share.
namespace varve {

constexpr uint64_t config_size_limit = 1ull << 60;

bool is_name(const std::string& x);
constexpr auto name_rule = "1 to 63 of a-z, A-Z, 0-9, '-', '_', '.', starting with a letter or digit";

/// An absolute path without "." and "..".
std::string resolve_path(const std::string& path, const std::string& base);

/// Replaces what `values` says of a value's origin.
void override_origin(config_findings& out, std::string_view table, std::string_view key, const char* option);

/// data_dir, run_dir and what else one node has for itself. Relative folders start at the file's.
void read_node_settings(table_reader& t, std::string_view table, node_config& x, const config_overrides& overrides,
                        config_findings& out);

/// "HOST:PORT" on loopback, or "off".
void read_http_listen(table_reader& t, std::string_view key, node_config& x);

/// Whether the file has [[node]]s.
bool is_cluster_file(const toml::table& file);

/// [node].
void read_single_node(table_reader& root, const toml::table& file, node_config& x, const config_overrides& overrides,
                      config_findings& out);

/// [cluster], [security] and every [[node]]; `x` is the one that `overrides` names.
void read_cluster(table_reader& root, const toml::table& file, node_config& x, const config_overrides& overrides,
                  config_findings& out);

/// Every [[tier]], each into its node's config: only what concerns the `chosen` one goes into `values`. All of them, in
/// order, when it is a `cluster`.
std::vector<tier_config> read_tiers(table_reader& root, const toml::table& file, std::vector<node_config>& nodes,
                                    size_t chosen, bool cluster, config_findings& out);

} // namespace varve
