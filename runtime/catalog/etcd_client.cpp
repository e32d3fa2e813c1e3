#include "runtime/catalog/etcd_client.hpp"

#include <algorithm>

#include "runtime/catalog/etcd_connection.hpp"

namespace varve {

namespace {

void fill(const etcd_comparison& x, api::Compare& out) {
  out.set_result(api::Compare::EQUAL);
  out.set_key(x.key);
  if (x.of == etcd_comparison::subject::created) {
    out.set_target(api::Compare::CREATE);
    out.set_create_revision(static_cast<int64_t>(x.revision));
  } else {
    out.set_target(api::Compare::MOD);
    out.set_mod_revision(static_cast<int64_t>(x.revision));
  }
}

void fill(const etcd_operation& x, api::RequestOp& out) {
  switch (x.of) {
  case etcd_operation::verb::get: {
    auto& get = *out.mutable_request_range();
    get.set_key(x.key);
    get.set_range_end(x.end);
    get.set_limit(static_cast<int64_t>(std::min<uint64_t>(x.limit, INT64_MAX)));
    get.set_revision(static_cast<int64_t>(x.revision));
    get.set_keys_only(x.keys_only);
    break;
  }
  case etcd_operation::verb::put:
    out.mutable_request_put()->set_key(x.key);
    out.mutable_request_put()->set_value(x.value);
    out.mutable_request_put()->set_lease(x.lease);
    break;
  case etcd_operation::verb::erase: out.mutable_request_delete_range()->set_key(x.key); break;
  }
}

etcd_entry entry_of(const api::KeyValue& x) {
  return {x.key(), x.value(), static_cast<uint64_t>(x.create_revision()), static_cast<uint64_t>(x.mod_revision()),
          x.lease()};
}

} // namespace

std::unique_ptr<etcd_client> etcd_client::make(etcd_options options, caf::error& problem) {
  auto self = std::make_unique<etcd_connection>(std::move(options));
  if (!self->connect(problem))
    return nullptr;
  return std::unique_ptr<etcd_client>{new etcd_client(std::move(self))};
}

etcd_client::etcd_client(std::unique_ptr<etcd_connection> x) : self_(std::move(x)) {}

etcd_client::~etcd_client() = default;

etcd_loop& etcd_client::loop() {
  return self_->loop;
}

const etcd_options& etcd_client::options() const {
  return self_->options;
}

void etcd_client::commit(const etcd_transaction& x, std::function<void(etcd_answer)> done) {
  api::TxnRequest request;
  for (const auto& c : x.compare)
    fill(c, *request.add_compare());
  for (const auto& o : x.then)
    fill(o, *request.add_success());
  for (const auto& o : x.otherwise)
    fill(o, *request.add_failure());
  etcd_answer refused;
  if (std::max({x.compare.size(), x.then.size(), x.otherwise.size()}) > etcd_operations_max)
    refused.context = std::to_string(std::max(x.compare.size(), x.then.size())) + " operations in one transaction";
  else if (const auto bytes = request.ByteSizeLong(); bytes >= etcd_request_bytes_max)
    refused.context = std::to_string(bytes) + " bytes in one transaction";
  if (!refused.context.empty()) {
    refused.status = errc::limit_reached;
    self_->loop.post([done, refused] { done(refused); });
    return;
  }
  self_->unary<api::TxnResponse>(
    [&](auto& to, auto* context, auto* queue) { return to.kv->AsyncTxn(context, request, queue); },
    [self = self_.get(), done](const grpc::Status& status, const api::TxnResponse& response, size_t member) {
      etcd_answer answer;
      if (!self->failed(status, member, answer)) {
        answer.held = response.succeeded();
        answer.revision = static_cast<uint64_t>(response.header().revision());
        for (const auto& r : response.responses()) {
          auto& page = answer.pages.emplace_back();
          page.more = r.response_range().more();
          for (const auto& kv : r.response_range().kvs())
            page.entries.push_back(entry_of(kv));
        }
      }
      done(std::move(answer));
    });
}

void etcd_client::grant(std::chrono::seconds term, std::function<void(etcd_lease)> done) {
  api::LeaseGrantRequest request;
  request.set_ttl(term.count());
  self_->unary<api::LeaseGrantResponse>(
    [&](auto& to, auto* context, auto* queue) { return to.lease->AsyncLeaseGrant(context, request, queue); },
    [self = self_.get(), done](const grpc::Status& status, const api::LeaseGrantResponse& response, size_t member) {
      etcd_lease answer;
      if (!self->failed(status, member, answer)) {
        answer.id = response.id();
        answer.term = std::chrono::seconds{response.ttl()};
        if (!response.error().empty()) {
          answer.status = errc::device_failed;
          answer.context = "etcd at " + self->members[member].endpoint + ": " + response.error();
        }
      }
      done(std::move(answer));
    });
}

void etcd_client::revoke(int64_t lease, std::function<void(etcd_lease)> done) {
  api::LeaseRevokeRequest request;
  request.set_id(lease);
  self_->unary<api::LeaseRevokeResponse>(
    [&](auto& to, auto* context, auto* queue) { return to.lease->AsyncLeaseRevoke(context, request, queue); },
    [self = self_.get(), done, lease](const grpc::Status& status, const api::LeaseRevokeResponse&, size_t member) {
      etcd_lease answer;
      answer.id = lease;
      self->failed(status, member, answer);
      done(std::move(answer));
    });
}

void etcd_client::keep_alive(int64_t lease, std::function<void(etcd_lease)> done) {
  // A stream for each: it goes to whichever member answers, and has a deadline.
  api::LeaseKeepAliveRequest request;
  request.set_id(lease);
  auto* call = new stream_call<api::LeaseKeepAliveRequest, api::LeaseKeepAliveResponse>(self_->calls, request);
  self_->prepare(call->context);
  const auto to = self_->current;
  auto term = std::make_shared<int64_t>(-1);
  call->on_read = [term](const api::LeaseKeepAliveResponse& x) {
    *term = x.ttl();
    return false;
  };
  call->on_end = [self = self_.get(), to, term, lease, done](const grpc::Status& status) {
    self->loop.post([=] {
      etcd_lease answer;
      answer.id = lease;
      if (*term >= 0) { // what came after the answer does not matter
        answer.term = std::chrono::seconds{*term};
        if (*term == 0) {
          answer.status = errc::not_found;
          answer.context = "etcd at " + self->members[to].endpoint + ": the lease has ended";
        }
      } else if (!self->failed(status, to, answer)) {
        answer.status = errc::unavailable;
        answer.context = "etcd at " + self->members[to].endpoint + ": it closed the stream";
      }
      done(std::move(answer));
    });
  };
  call->start(self_->members[to].lease->PrepareAsyncLeaseKeepAlive(&call->context, &self_->queue));
}

namespace {

/// On the loop's thread only.
struct watch_state {
  std::function<void(const etcd_watch_report&)> report;
  bool over = false;
};

class watch_handle : public etcd_watch_handle {
public:
  watch_handle(under_way& calls, uint64_t number, std::shared_ptr<watch_state> state)
    : calls_(calls), number_(number), state_(std::move(state)) {}
  ~watch_handle() override {
    state_->over = true;
    state_->report = nullptr;
    calls_.cancel(number_);
  }

private:
  under_way& calls_;
  uint64_t number_;
  std::shared_ptr<watch_state> state_;
};

} // namespace

std::unique_ptr<etcd_watch_handle> etcd_client::watch(const std::string& key, uint64_t from,
                                                      std::function<void(const etcd_watch_report&)> report) {
  api::WatchRequest request;
  request.mutable_create_request()->set_key(key);
  request.mutable_create_request()->set_start_revision(static_cast<int64_t>(from));
  auto* call = new stream_call<api::WatchRequest, api::WatchResponse>(self_->calls, request);
  // No deadline: pings find out whether the member is there.
  call->context.AddMetadata("hasleader", "true");
  const auto to = self_->current;
  auto state = std::make_shared<watch_state>();
  state->report = std::move(report);
  const auto tell = [self = self_.get(), state](etcd_watch_report x) {
    self->loop.post([state, x = std::move(x)] {
      if (state->over)
        return;
      state->over = x.status != errc::none;
      auto report = state->report; // it may destroy the handle
      report(x);
    });
  };
  call->on_read = [self = self_.get(), to, tell](const api::WatchResponse& x) {
    etcd_watch_report r;
    r.revision = static_cast<uint64_t>(x.header().revision());
    for (const auto& e : x.events())
      r.events.push_back({e.type() == api::Event::DELETE, entry_of(e.kv())});
    if (x.compact_revision() != 0) {
      r.status = errc::bad_format;
      r.revision = static_cast<uint64_t>(x.compact_revision());
      r.context = "etcd at " + self->members[to].endpoint + ": compacted";
    } else if (x.canceled()) {
      r.status = errc::unavailable;
      r.context = "etcd at " + self->members[to].endpoint + ": " + x.cancel_reason();
    }
    const bool more = r.status == errc::none;
    tell(std::move(r));
    return more;
  };
  call->on_end = [self = self_.get(), to, tell](const grpc::Status& status) {
    // On the loop: `failed` chooses the next member.
    self->loop.post([self, to, tell, status] {
      etcd_watch_report r;
      if (!self->failed(status, to, r)) {
        r.status = errc::unavailable;
        r.context = "etcd at " + self->members[to].endpoint + ": it closed the watch";
      }
      tell(std::move(r));
    });
  };
  auto handle = std::make_unique<watch_handle>(self_->calls, call->number, state);
  call->start(self_->members[to].watch->PrepareAsyncWatch(&call->context, &self_->queue));
  return handle;
}

} // namespace varve
