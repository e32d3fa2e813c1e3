#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <caf/error.hpp>

#include "messages/errors.hpp"

namespace varve {

class etcd_connection;
class etcd_loop;

struct etcd_options {
  /// Of the members of one etcd cluster: "http://HOST:PORT", or "https://HOST:PORT" for all of them.
  std::vector<std::string> endpoints;
  /// PEM files, for https. Empty: the system's authorities; no certificate of our own.
  std::string ca_file, cert_file, key_file;
  /// Of one call.
  std::chrono::nanoseconds call_timeout = std::chrono::seconds{2};
};

struct etcd_entry {
  std::string key, value;
  uint64_t create_revision = 0;
  uint64_t mod_revision = 0;
  /// 0: none.
  int64_t lease = 0;
};

/// That a key was created, or last written, at a revision; 0: that it is absent.
struct etcd_comparison {
  enum class subject : uint8_t { created, modified };
  std::string key;
  subject of = subject::modified;
  uint64_t revision = 0;
};

struct etcd_operation {
  enum class verb : uint8_t { get, put, erase };
  verb of = verb::get;
  std::string key;
  /// Of put.
  std::string value;
  int64_t lease = 0;
  /// Of get: up to this key (exclusive; empty: the one key), at most `limit` (0: all) entries, as of `revision` (0:
  /// now).
  std::string end;
  uint64_t limit = 0;
  uint64_t revision = 0;
  bool keys_only = false;
};

/// Done as a whole under one revision: `then` if every comparison holds, otherwise `otherwise`.
struct etcd_transaction {
  std::vector<etcd_comparison> compare;
  std::vector<etcd_operation> then, otherwise;
};

/// etcd's own limit (--max-txn-ops) for each of the three lists above.
inline constexpr size_t etcd_operations_max = 128;
/// etcd's own limit (--max-request-bytes) for one transaction.
inline constexpr size_t etcd_request_bytes_max = 1536 << 10;

struct etcd_page {
  std::vector<etcd_entry> entries;
  bool more = false;
};

/// What went wrong has a context that names the endpoint and the reason:
///   - errc::timed_out, unavailable, device_failed: no answer, or one of a member without a leader. With `in_doubt`
///   etcd
///     may have done it, or may yet do it.
///   - errc::tier_full: etcd has no space left; limit_reached: too many operations, or too large;
///     invalid_argument: anything else that etcd refuses. Nothing was changed.
///   - errc::not_found: no such lease; errc::bad_format: the revision asked for is compacted.
struct etcd_answer {
  errc status = errc::none;
  std::string context;
  bool in_doubt = false;
  /// Whether the comparisons held.
  bool held = false;
  uint64_t revision = 0;
  /// One for each operation that was done, in order; empty for put and erase.
  std::vector<etcd_page> pages;
};

struct etcd_lease {
  errc status = errc::none;
  std::string context;
  int64_t id = 0;
  std::chrono::seconds term{0};
};

struct etcd_watch_report {
  /// errc::bad_format: what was asked for is compacted, up to `revision`. Anything but none is the last report.
  errc status = errc::none;
  std::string context;
  uint64_t revision = 0;
  struct event {
    bool erased = false;
    etcd_entry entry;
  };
  std::vector<event> events;
};

/// A watch under way. Destroying it ends it; nothing is reported from then on.
class etcd_watch_handle {
public:
  virtual ~etcd_watch_handle() = default;
};

/// Speaks with the members of an etcd cluster, one after the other: a call that gets no answer makes the next call go
/// to the next member. Nothing is retried here. All is asked on the loop's thread, and answered there, once.
class etcd_client {
public:
  /// Connects to nobody yet. Null with `problem` (errc::invalid_argument): a file that cannot be read, an endpoint that
  /// is none.
  static std::unique_ptr<etcd_client> make(etcd_options options, caf::error& problem);
  /// Cancels what is under way; its answers are dropped. Whoever uses it has ended before.
  ~etcd_client();

  etcd_loop& loop();
  const etcd_options& options() const;

  void commit(const etcd_transaction& x, std::function<void(etcd_answer)> done);
  /// `term` is a wish: the answer has what etcd grants.
  void grant(std::chrono::seconds term, std::function<void(etcd_lease)> done);
  /// errc::not_found when it has ended.
  void keep_alive(int64_t lease, std::function<void(etcd_lease)> done);
  void revoke(int64_t lease, std::function<void(etcd_lease)> done);
  /// What happens to a key from a revision on, until it breaks.
  std::unique_ptr<etcd_watch_handle> watch(const std::string& key, uint64_t from,
                                           std::function<void(const etcd_watch_report&)> report);

private:
  explicit etcd_client(std::unique_ptr<etcd_connection> x);
  std::unique_ptr<etcd_connection> self_;
};

} // namespace varve
