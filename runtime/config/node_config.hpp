#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "messages/types.hpp"
#include "runtime/config/cluster_config.hpp"
#include "runtime/config/tier_config.hpp"

namespace varve {

enum class ring_choice : uint8_t { automatic, io_uring, threads };

/// [lease]: see DESIGN section 6. The holder stops at term − drift after it asked.
struct lease_config {
  std::chrono::nanoseconds term = std::chrono::seconds{45};
  std::chrono::nanoseconds renew = std::chrono::seconds{15};
  /// How far the clocks of holder and server may part within one term.
  std::chrono::nanoseconds drift = std::chrono::seconds{1};
  /// What a holder gets to give way before it is fenced.
  std::chrono::nanoseconds grace = std::chrono::seconds{5};
  /// The longest time that managing may be interrupted without anybody's I/O stopping.
  std::chrono::nanoseconds failover = std::chrono::seconds{10};

  /// Of volumes of high sensitivity: 20 s, if that outlasts a failover as `term` does, and never above `term`. Renewed
  /// at a third, or at `renew` if that is sooner.
  std::chrono::nanoseconds term_sensitive() const;
};

/// [nbd]: what one client may take.
struct nbd_config {
  /// Of one volume.
  uint64_t connections_max = 16;
  /// Of one read or write; larger ones are refused as the protocol says.
  uint64_t request_bytes_max = 32ull << 20;
  /// Requests under way on one connection; reading stops there.
  uint64_t requests_max = 128;
  /// A client that has not chosen an export by then is dropped.
  std::chrono::nanoseconds handshake_timeout = std::chrono::seconds{10};
};

enum class catalog_kind : uint8_t { sqlite, etcd };

/// [catalog]: where the catalog is. All but the kind is etcd's.
struct catalog_config {
  catalog_kind kind = catalog_kind::sqlite;
  /// "http://HOST:PORT" or "https://HOST:PORT", of one etcd cluster.
  std::vector<std::string> endpoints;
  /// That is one etcd on this machine, which `varve cluster up` starts.
  bool local = false;
  /// Of all keys of this cluster of Varve's; begins and ends with '/'.
  std::string prefix = "/varve/";
  /// How long a leader that is not heard of stays one. Whole seconds.
  std::chrono::nanoseconds leader_term = std::chrono::seconds{5};
  /// Of one call to etcd.
  std::chrono::nanoseconds call_timeout = std::chrono::seconds{2};
  /// How long etcd is asked whether a change was made whose answer did not come.
  std::chrono::nanoseconds resolve_timeout = std::chrono::seconds{30};
  /// PEM files, absolute; empty: none of our own.
  std::string tls_ca, tls_cert, tls_key;
};

/// All that varved is told, checked, with absolute paths.
struct node_config {
  std::string name = "node";
  node_roles roles;
  cluster_config cluster;
  /// What belongs to the cluster on this machine and to no single node of it: a local etcd's data. Nodes' own folders
  /// are in it unless they say otherwise. Empty: the node is by itself.
  std::string cluster_dir;
  /// Catalog, shard files, lock.
  std::string data_dir;
  /// Sockets.
  std::string run_dir;
  /// Threads of the data path; 0: one for each two processors.
  uint64_t reactors = 0;
  ring_choice io = ring_choice::automatic;
  /// Within which `stop` and SIGTERM flush and close; then the process ends anyway.
  std::chrono::nanoseconds stop_timeout = std::chrono::seconds{60};

  /// Its own.
  std::vector<tier_config> tiers;

  /// [volume]: what `volume create` does not say.
  uint64_t shard_size = shard_size_default;
  /// What I/O does that gets no lease: waits (0), or fails after this long.
  std::chrono::nanoseconds error_after{0};

  lease_config lease;

  catalog_config catalog;

  /// [migration]: bytes per second of all background copying together; 0 is unlimited.
  uint64_t migration_budget = 64ull << 20;
  uint64_t migrations_concurrent = 16;

  nbd_config nbd;

  std::string rpc_socket;
  uint64_t rpc_connections_max = 64;
  /// After which a request is answered with errc::timed_out.
  std::chrono::nanoseconds rpc_timeout = std::chrono::seconds{30};

  /// Loopback address; empty: no HTTP.
  std::string http_host = "127.0.0.1";
  uint16_t http_port = 9480;

  /// "trace", "debug", "info", "warning" or "error".
  std::string log_level = "info";
  /// Empty: standard error.
  std::string log_file;

  /// Lets `actor kill` through: for tests.
  bool allow_kill = false;
  /// False: I/O goes on after its lease's end, for tests of what storage does then.
  bool holder_clock = true;
};

/// One thing that is wrong, where it stands (1-based; 0: the file as a whole).
struct config_problem {
  std::string file;
  uint32_t line = 0, column = 0;
  std::string what;
  std::string expected;
};

/// "FILE:LINE:COL: what; expected ...".
std::string to_string(const config_problem& x);

/// One effective value, for `config show`.
struct config_value {
  /// "lease", "tier[fast]"; empty at the top.
  std::string table;
  std::string key;
  /// As TOML writes it.
  std::string literal;
  /// "default", "FILE:LINE" or the option that overrides.
  std::string origin;
};

/// What reading gave beside the config. Good when there are no problems.
struct config_findings {
  std::string file;
  std::vector<config_problem> problems;
  std::vector<config_value> values;
};

/// Given on the command line instead of in the file. Relative to the working directory.
struct config_overrides {
  std::string data_dir;
  std::string run_dir;
  /// Which node of a cluster's file: that is read as the config. Without it the file is checked as a whole.
  std::string node;
};

/// Reads a file. Relative `data_dir` and `run_dir` start at the file's folder; other relative paths at `data_dir`
/// (sockets: at `run_dir`). "${NAME}" in a string is the environment's. All problems are found in one go.
node_config read_config(const std::string& file, const config_overrides& overrides, config_findings& findings);

/// The same from text, as if it were `file`.
node_config parse_config(const std::string& text, const std::string& file, const config_overrides& overrides,
                         config_findings& findings);

/// Where sockets are when nothing is configured: /run/varve for root, else in $XDG_RUNTIME_DIR or /tmp/varve-UID. The
/// CLI looks there too.
std::string default_run_dir();
std::string default_rpc_socket();

} // namespace varve
