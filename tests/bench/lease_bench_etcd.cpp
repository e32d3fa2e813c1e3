// Leases as etcd has them: for each batch a lease (LeaseGrant), and a transaction that puts the keys under it if nobody
// has the first of them. One connection and one thread for each agent.

#include <atomic>
#include <memory>
#include <stdexcept>
#include <thread>

#include <grpcpp/grpcpp.h>

#include "etcd_rpc.grpc.pb.h"
#include "tests/bench/lease_bench.hpp"

namespace varve::bench {

namespace {

namespace api = etcdserverpb;

struct etcd_agent {
  std::unique_ptr<api::Lease::Stub> lease;
  std::unique_ptr<api::KV::Stub> kv;
  std::vector<uint64_t> latencies;
  uint64_t acquired = 0;

  explicit etcd_agent(const std::string& at, uint64_t number) {
    grpc::ChannelArguments with;
    with.SetInt("number", static_cast<int>(number)); // a connection of its own
    auto channel = grpc::CreateCustomChannel(at, grpc::InsecureChannelCredentials(), with);
    lease = api::Lease::NewStub(channel);
    kv = api::KV::NewStub(channel);
  }

  void acquire(uint64_t first, uint64_t count) {
    const auto began = std::chrono::steady_clock::now();
    api::LeaseGrantRequest grant;
    grant.set_ttl(45);
    api::LeaseGrantResponse granted;
    grpc::ClientContext one, two;
    if (auto x = lease->LeaseGrant(&one, grant, &granted); !x.ok())
      throw std::runtime_error("LeaseGrant: " + x.error_message());
    api::TxnRequest txn;
    auto* compare = txn.add_compare();
    compare->set_target(api::Compare::CREATE);
    compare->set_key("lease/" + std::to_string(first));
    compare->set_create_revision(0);
    for (auto i = first; i < first + count; ++i) {
      auto* put = txn.add_success()->mutable_request_put();
      put->set_key("lease/" + std::to_string(i));
      put->set_value("write 1.1"); // mode and epoch
      put->set_lease(granted.id());
    }
    api::TxnResponse done;
    if (auto x = kv->Txn(&two, txn, &done); !x.ok() || !done.succeeded())
      throw std::runtime_error("Txn: " + (x.ok() ? "somebody has it" : x.error_message()));
    latencies.push_back(static_cast<uint64_t>((std::chrono::steady_clock::now() - began).count()));
    acquired += count;
  }
};

} // namespace

nlohmann::json run_etcd(const lease_load& load) {
  std::vector<std::unique_ptr<etcd_agent>> agents;
  for (uint64_t i = 0; i < load.agents * load.depth; ++i)
    agents.push_back(std::make_unique<etcd_agent>(load.etcd, i));
  const auto share = load.shards / agents.size();
  std::atomic<bool> failed{false};
  std::string why;
  const auto began = std::chrono::steady_clock::now();
  std::vector<std::thread> threads;
  for (size_t i = 0; i < agents.size(); ++i)
    threads.emplace_back([&, i] {
      try {
        for (auto at = i * share; at < (i + 1) * share && !failed; at += load.batch)
          agents[i]->acquire(at, std::min(load.batch, (i + 1) * share - at));
      } catch (const std::exception& e) {
        if (!failed.exchange(true))
          why = e.what();
      }
    });
  for (auto& x : threads)
    x.join();
  const auto took = std::chrono::steady_clock::now() - began;
  if (failed)
    throw std::runtime_error(why);
  std::vector<uint64_t> latencies;
  uint64_t acquired = 0;
  for (auto& x : agents) {
    latencies.insert(latencies.end(), x->latencies.begin(), x->latencies.end());
    acquired += x->acquired;
  }
  return figures_of(latencies, acquired, took);
}

} // namespace varve::bench
