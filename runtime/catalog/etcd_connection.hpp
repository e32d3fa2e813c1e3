#pragma once

#include <algorithm>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include <grpcpp/grpcpp.h>

#include "etcd_rpc.grpc.pb.h"
#include "runtime/catalog/etcd_client.hpp"
#include "runtime/catalog/etcd_loop.hpp"

/// What etcd_client is made of. Includes gRPC, which takes seconds to compile: for its own two files only.
namespace varve {

namespace api = ::etcdserverpb;

// What is under way, so that it can be cancelled and waited for. Shared with gRPC's threads.
class under_way {
public:
  /// Its number; a context's address may be another's later.
  uint64_t add(grpc::ClientContext& x) {
    std::lock_guard guard{mutex_};
    calls_[++last_] = &x;
    if (closed_)
      x.TryCancel();
    return last_;
  }
  /// From then on the context may be destroyed.
  void remove(uint64_t number) {
    std::lock_guard guard{mutex_};
    calls_.erase(number);
    changed_.notify_all();
  }
  void cancel(uint64_t number) {
    std::lock_guard guard{mutex_};
    if (auto at = calls_.find(number); at != calls_.end())
      at->second->TryCancel();
  }
  void cancel_all_and_wait() {
    std::unique_lock guard{mutex_};
    closed_ = true;
    for (auto& [number, x] : calls_)
      x->TryCancel();
    changed_.wait(guard, [this] { return calls_.empty(); });
  }

private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<uint64_t, grpc::ClientContext*> calls_;
  uint64_t last_ = 0;
  bool closed_ = false;
};

/// What gRPC's queue gives back.
struct completion {
  virtual ~completion() = default;
  virtual void complete(bool ok) = 0;
};

/// What a call that failed means, by gRPC's code and, where one code has several meanings, by etcd's text.
struct etcd_meaning {
  errc status;
  bool in_doubt;
};
etcd_meaning meaning_of(const grpc::Status& x);

/// The members, one thread for gRPC's completions and the loop on which they are told.
class etcd_connection {
public:
  struct member {
    std::string endpoint;
    std::shared_ptr<grpc::Channel> channel;
    std::unique_ptr<api::KV::Stub> kv;
    std::unique_ptr<api::Lease::Stub> lease;
    std::unique_ptr<api::Watch::Stub> watch;
  };

  explicit etcd_connection(etcd_options x)
    : options(std::move(x)), completions([this] {
        void* tag = nullptr;
        for (bool ok = false; queue.Next(&tag, &ok);)
          static_cast<completion*>(tag)->complete(ok);
      }) {}
  ~etcd_connection() {
    calls.cancel_all_and_wait();
    // The last answers, and what they may still have asked.
    loop.run_here([] {});
    calls.cancel_all_and_wait();
    queue.Shutdown();
    completions.join();
  }

  bool connect(caf::error& problem);
  std::shared_ptr<grpc::ChannelCredentials> credentials(bool tls, caf::error& problem) const;

  /// The status of a call to a member; makes the next call go elsewhere when this one had no answer.
  template <class Answer>
  bool failed(const grpc::Status& x, size_t member, Answer& out) {
    const auto [status, doubt] = meaning_of(x);
    if (status == errc::none)
      return false;
    out.status = status;
    out.context = "etcd at " + members[member].endpoint + ": " +
                  (x.error_code() == grpc::DEADLINE_EXCEEDED ? "no answer in time" : x.error_message());
    if constexpr (requires { out.in_doubt; })
      out.in_doubt = doubt;
    // Not for what every member refuses.
    if (doubt && member == current)
      current = (current + 1) % members.size();
    return true;
  }

  /// One unary call: `begin` hands it to gRPC, `finish` makes the answer of status and response, on the loop's thread.
  template <class Response, class Begin, class Finish>
  void unary(Begin begin, Finish finish) {
    struct call : completion {
      void complete(bool) override {
        auto self = std::shared_ptr<call>{this};
        owner->loop.post([self] { self->finish(self->status, self->response, self->to); });
        owner->calls.remove(number);
      }
      explicit call(Finish x) : finish(std::move(x)) {}
      etcd_connection* owner = nullptr;
      Finish finish;
      uint64_t number = 0;
      size_t to = 0;
      Response response;
      grpc::Status status;
      std::unique_ptr<grpc::ClientAsyncResponseReader<Response>> reader;
      grpc::ClientContext context;
    };
    auto* x = new call{std::move(finish)};
    x->owner = this;
    x->to = current;
    x->number = calls.add(x->context);
    prepare(x->context);
    x->reader = begin(members[current], &x->context, &queue);
    x->reader->Finish(&x->response, &x->status, static_cast<completion*>(x));
  }

  void prepare(grpc::ClientContext& x) const {
    x.set_deadline(std::chrono::system_clock::now() +
                   std::chrono::duration_cast<std::chrono::system_clock::duration>(options.call_timeout));
    // A member that knows no leader refuses at once rather than let us wait.
    x.AddMetadata("hasleader", "true");
  }

  const etcd_options options;
  std::vector<member> members;
  size_t current = 0;
  etcd_loop loop;
  under_way calls;
  grpc::CompletionQueue queue;
  std::thread completions; // last: runs on all of the above
};

/// A stream on which one request is written. One step is under way at a time; it is gone after the last.
template <class Request, class Response>
class stream_call : public completion {
public:
  stream_call(under_way& calls, Request request) : calls_(calls), request_(std::move(request)) {
    number = calls_.add(context);
  }

  using stream = std::unique_ptr<grpc::ClientAsyncReaderWriter<Request, Response>>;
  void start(stream x) {
    stream_ = std::move(x);
    stream_->StartCall(tag());
  }

  void complete(bool ok) override {
    if (at_ == step::finish) {
      on_end(status_);
      calls_.remove(number);
      delete this;
      return;
    }
    bool more = ok;
    if (ok && at_ == step::read)
      more = on_read(response_);
    if (ok && !more)
      context.TryCancel();
    if (!more) {
      at_ = step::finish;
      stream_->Finish(&status_, tag());
    } else if (at_ == step::start) {
      at_ = step::write;
      stream_->Write(request_, tag());
    } else {
      at_ = step::read;
      stream_->Read(&response_, tag());
    }
  }

  // On the thread of completions. Reading goes on while the first says so.
  std::function<bool(Response&)> on_read;
  std::function<void(const grpc::Status&)> on_end;
  grpc::ClientContext context;
  uint64_t number = 0;

private:
  void* tag() { return static_cast<completion*>(this); }

  enum class step : uint8_t { start, write, read, finish } at_ = step::start;
  under_way& calls_;
  Request request_;
  Response response_;
  grpc::Status status_;
  stream stream_;
};

} // namespace varve
