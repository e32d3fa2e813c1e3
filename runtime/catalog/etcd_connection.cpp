#include "runtime/catalog/etcd_connection.hpp"

#include <cstdlib>
#include <fstream>
#include <sstream>

#include <grpc/support/log.h>

namespace varve {

namespace {

/// A page of entries must fit, whatever their size.
constexpr int answer_bytes_max = 1 << 30;

bool read_file(const std::string& path, std::string& out, caf::error& problem) {
  if (path.empty())
    return true;
  std::ifstream in{path, std::ios::binary};
  std::ostringstream text;
  if (!in || !(text << in.rdbuf())) {
    problem = make_error(errc::invalid_argument, path + ": cannot be read");
    return false;
  }
  out = text.str();
  return true;
}

} // namespace

etcd_meaning meaning_of(const grpc::Status& x) {
  const auto says = [&](const char* text) { return x.error_message().find(text) != std::string::npos; };
  switch (x.error_code()) {
  case grpc::OK: return {errc::none, false};
  case grpc::DEADLINE_EXCEEDED: return {errc::timed_out, true};
  case grpc::UNAVAILABLE:
  case grpc::CANCELLED: return {errc::unavailable, true};
  case grpc::RESOURCE_EXHAUSTED:
    return {says("space exceeded")    ? errc::tier_full
            : says("larger than max") ? errc::limit_reached
                                      : errc::unavailable,
            false};
  case grpc::INVALID_ARGUMENT:
    return {says("too many operations") || says("too large") ? errc::limit_reached : errc::invalid_argument, false};
  case grpc::NOT_FOUND: return {errc::not_found, false};
  case grpc::OUT_OF_RANGE: return {errc::bad_format, false};
  case grpc::FAILED_PRECONDITION:
  case grpc::PERMISSION_DENIED:
  case grpc::UNAUTHENTICATED:
  case grpc::UNIMPLEMENTED: return {errc::invalid_argument, false};
  default: return {errc::device_failed, true};
  }
}

std::shared_ptr<grpc::ChannelCredentials> etcd_connection::credentials(bool tls, caf::error& problem) const {
  if (!tls)
    return grpc::InsecureChannelCredentials();
  grpc::SslCredentialsOptions x;
  if (!read_file(options.ca_file, x.pem_root_certs, problem) ||
      !read_file(options.cert_file, x.pem_cert_chain, problem) ||
      !read_file(options.key_file, x.pem_private_key, problem))
    return nullptr;
  return grpc::SslCredentials(x);
}

bool etcd_connection::connect(caf::error& problem) {
  // gRPC writes to standard error what each call's status says too; with GRPC_TRACE it may, for who looks for more.
  if (!std::getenv("GRPC_TRACE") && !std::getenv("GRPC_VERBOSITY"))
    gpr_set_log_function([](gpr_log_func_args*) {});
  grpc::ChannelArguments arguments;
  // Try again soon: etcd is near, and a manager without it cannot lead.
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 1000);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1000);
  // A member whose host is gone is found out; etcd allows one ping in 5 s.
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 10'000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 3'000);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetMaxReceiveMessageSize(answer_bytes_max);
  for (const auto& endpoint : options.endpoints) {
    const bool tls = endpoint.starts_with("https://");
    if (!tls && !endpoint.starts_with("http://")) {
      problem = make_error(errc::invalid_argument, '"' + endpoint + "\" is no endpoint: http://HOST:PORT is one");
      return false;
    }
    auto how = credentials(tls, problem);
    if (!how)
      return false;
    member x;
    x.endpoint = endpoint;
    x.channel = grpc::CreateCustomChannel(endpoint.substr(endpoint.find("//") + 2), how, arguments);
    x.kv = api::KV::NewStub(x.channel);
    x.lease = api::Lease::NewStub(x.channel);
    x.watch = api::Watch::NewStub(x.channel);
    members.push_back(std::move(x));
  }
  if (members.empty())
    problem = make_error(errc::invalid_argument, "etcd: no endpoint");
  return !members.empty();
}

} // namespace varve
