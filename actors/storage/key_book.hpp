#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include <caf/error.hpp>
#include <caf/timespan.hpp>

#include "messages/cluster.hpp"
#include "runtime/config/cluster_config.hpp"
#include "runtime/remote/session_keys.hpp"

namespace varve {

/// The keys with which the reactors of other nodes open sessions at this node's: one for each pair of reactors. What
/// may be asked for, what is handed out and what is taken back; no actor and no clock. Outlives the data_keeper that
/// uses it, so that the next one knows what is out.
class key_book {
public:
  /// So many reactors one node may say that it has.
  static constexpr uint32_t reactors_max = 256;

  /// `reactors`: of this node. `fill_random` makes secrets.
  key_book(uint32_t reactors, std::function<void(std::span<std::byte>)> fill_random)
    : reactors_(reactors), fill_random_(std::move(fill_random)) {}

  struct taken_back {
    uint32_t reactor = 0;
    uint64_t key = 0;
  };
  struct answer {
    /// By the number of this node's reactor, each with its expiry.
    std::vector<session_key> keys;
    /// Of an earlier life of who asks, or expired: open nothing any more.
    std::vector<taken_back> revoked;
  };

  /// Keys for one reactor of a node, good until now + term: the same ones as long as they are asked for in time.
  /// errc::not_found: no node of the cluster that does I/O; errc::conflict: of an earlier life of it;
  /// errc::invalid_argument: more reactors than there may be.
  caf::error give(const cluster_config& cluster, const data_access_request& x, boot_time now, caf::timespan term,
                  answer& out);

  /// Given out and not taken back; expired ones count until they are asked for again.
  size_t keys() const noexcept;

private:
  struct client {
    uint64_t incarnation = 0;
    std::map<uint32_t, std::vector<session_key>> keys; // by its reactor
  };

  uint64_t fresh_id();

  uint32_t reactors_;
  std::function<void(std::span<std::byte>)> fill_random_;
  std::map<std::string, client> clients_; // nodes of the cluster only
};

} // namespace varve
