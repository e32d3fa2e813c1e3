#pragma once

#include <chrono>
#include <string>
#include <vector>

#include <caf/error.hpp>
#include <nlohmann/json.hpp>

#include "messages/cluster_view.hpp"
#include "messages/lease.hpp"
#include "messages/migration.hpp"
#include "messages/node.hpp"
#include "messages/tier.hpp"
#include "messages/volume.hpp"

namespace varve::cli {

/// How the program ends; `varve --help` tells. Append only.
enum exit_code : int { success = 0, refused = 1, usage = 2, unreachable = 3, timed_out = 4 };

/// A table for people: columns as wide as they need be. A heading that starts with '>' aligns its column to the right.
class table {
public:
  explicit table(std::vector<std::string> head) : head_(std::move(head)) {}
  void row(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }
  /// Lines, each with its end.
  std::string text(bool headers) const;
  /// To standard output.
  void print(bool headers) const;

private:
  std::vector<std::string> head_;
  std::vector<std::vector<std::string>> rows_;
};

/// "3 min ago" and the like would age in a log: UTC, to the second.
std::string utc(uint64_t seconds);
std::string percent(double x);
/// The text, or that it says nothing.
std::string known(bool is_known, std::string text);
/// A bar of 30 cells.
std::string bar(double percent);

// One object for each thing. Bytes are integers, durations seconds, points in time seconds since 1970. What is not
// known is null.
nlohmann::json to_json(const volume_info& x);
nlohmann::json to_json(const attachment& x);
nlohmann::json to_json(const shard_row& x);
nlohmann::json to_json(const tier_row& x);
/// `host`: where the holder is attached; empty: nowhere.
nlohmann::json to_json(const lease_info& x, const std::string& volume_name, const std::string& host);
nlohmann::json to_json(const lease_event& x, const std::string& volume_name, const std::string& host);
nlohmann::json to_json(const migration_progress& x, const std::string& volume_name);
nlohmann::json to_json(const node_status& x);
nlohmann::json to_json(const member_info& x);
nlohmann::json to_json(const cluster_view& x);
nlohmann::json to_json(const node_condition& x);
nlohmann::json to_json(const node_verdict& x);
/// In one line, for people.
std::string reasons_of(const node_verdict& x);
nlohmann::json to_json(const event& x);
nlohmann::json to_json(const actor_info& x);

} // namespace varve::cli
