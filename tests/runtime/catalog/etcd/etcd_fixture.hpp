#pragma once

#include <condition_variable>
#include <mutex>
#include <optional>

#include "runtime/catalog/etcd_client.hpp"
#include "runtime/catalog/etcd_election.hpp"
#include "runtime/catalog/etcd_loop.hpp"
#include "runtime/catalog/etcd_store.hpp"
#include "tests/runtime/catalog/etcd/etcd_server.hpp"
#include "tests/runtime/catalog/store_cases.hpp"

namespace varve {

using namespace std::chrono_literals;

/// The etcd that cases share which leave it as it is; each has a prefix of its own.
inline etcd_server& shared_etcd() {
  static etcd_server server;
  return server;
}

inline std::string fresh_prefix() {
  static int count = 0;
  return "/varve-test/" + std::to_string(++count) + '/';
}

inline std::unique_ptr<etcd_client> connect(std::vector<std::string> endpoints,
                                            std::chrono::milliseconds timeout = 2s) {
  caf::error problem;
  auto client = etcd_client::make({std::move(endpoints), {}, {}, {}, timeout}, problem);
  BOOST_REQUIRE_MESSAGE(client, context_of(problem));
  return client;
}

/// What an election said, in order; any thread.
class election_log {
public:
  etcd_election_events events() {
    return {[this](const etcd_leadership& x) {
              std::lock_guard guard{mutex_};
              leading_ = x;
              add("leading");
            },
            [this](const std::string& why) {
              std::lock_guard guard{mutex_};
              leading_.reset();
              add("lost: " + why);
            },
            [this](const std::string& why) {
              std::lock_guard guard{mutex_};
              add("waiting: " + why);
            }};
  }
  /// Waits until it leads.
  etcd_leadership leadership(std::chrono::seconds patience = 60s) {
    std::unique_lock guard{mutex_};
    BOOST_REQUIRE_MESSAGE(changed_.wait_for(guard, patience, [&] { return leading_.has_value(); }), text());
    return *leading_;
  }
  bool leads() {
    std::lock_guard guard{mutex_};
    return leading_.has_value();
  }
  /// Waits until something was said that contains it.
  bool said(const std::string& part, std::chrono::seconds patience = 60s) {
    std::unique_lock guard{mutex_};
    return changed_.wait_for(guard, patience, [&] { return text().find(part) != std::string::npos; });
  }
  std::string all() {
    std::lock_guard guard{mutex_};
    return text();
  }

private:
  void add(std::string x) {
    said_.push_back(std::move(x));
    changed_.notify_all();
  }
  std::string text() const {
    std::string result;
    for (const auto& x : said_)
      result += x + '\n';
    return result;
  }
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::string> said_;
  std::optional<etcd_leadership> leading_;
};

/// A manager: client, election and store. It leads when it is made, unless told not to wait.
struct etcd_manager {
  explicit etcd_manager(std::string prefix = fresh_prefix(),
                        std::vector<std::string> endpoints = {shared_etcd().endpoint()}, std::string name = "one",
                        std::chrono::milliseconds call_timeout = 2s)
    : prefix(prefix), client(connect(std::move(endpoints), call_timeout)),
      store(std::make_unique<etcd_store>(*client, etcd_store_options{prefix, 4s, 15s})),
      election(std::make_unique<etcd_election>(*client, etcd_election_options{prefix, name, {}, 3s}, log.events())) {}

  etcd_leadership lead() {
    const auto x = log.leadership();
    const auto problem = open(x);
    BOOST_REQUIRE_MESSAGE(!problem, context_of(problem));
    return x;
  }
  caf::error open(const etcd_leadership& x) {
    std::promise<caf::error> ready;
    store->lead(x, [&](caf::error problem) { ready.set_value(std::move(problem)); });
    return ready.get_future().get();
  }
  etcd_answer commit(const etcd_transaction& x) {
    std::promise<etcd_answer> answer;
    client->loop().post([&] { client->commit(x, [&](etcd_answer y) { answer.set_value(std::move(y)); }); });
    return answer.get_future().get();
  }

  std::string prefix;
  election_log log;
  std::unique_ptr<etcd_client> client;
  std::unique_ptr<etcd_store> store;
  std::unique_ptr<etcd_election> election;
};

inline etcd_transaction put_one(std::string key, std::string value) {
  etcd_transaction x;
  auto& o = x.then.emplace_back();
  o.of = etcd_operation::verb::put;
  o.key = std::move(key);
  o.value = std::move(value);
  return x;
}

} // namespace varve
