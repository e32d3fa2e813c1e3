#include "runtime/monitoring/http_server.hpp"

#include <cerrno>
#include <cstring>
#include <thread>

#include <httplib.h>

namespace varve {

namespace {

class server : public http_server {
public:
  explicit server(http_pages pages) : pages_(std::move(pages)) {
    // A scrape takes milliseconds; this bounds what slow clients may hold, and how long silent ones keep others
    // waiting: a second for each eight of them.
    http_.new_task_queue = [] { return new httplib::ThreadPool(8); };
    http_.set_payload_max_length(4096);
    http_.set_read_timeout(1, 0);
    http_.set_write_timeout(5, 0);
    http_.set_keep_alive_timeout(1);
    // The library's default would let a second process share the port.
    http_.set_socket_options([](socket_t s) {
      int on = 1;
      ::setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    });
    http_.Get("/metrics", [this](const httplib::Request&, httplib::Response& r) {
      r.set_content(pages_.metrics(), "text/plain; version=0.0.4; charset=utf-8");
    });
    http_.Get("/livez", [](const httplib::Request&, httplib::Response& r) { r.set_content("ok\n", "text/plain"); });
    http_.Get("/readyz", [this](const httplib::Request&, httplib::Response& r) {
      const auto why = pages_.not_ready();
      r.status = why.empty() ? 200 : 503;
      r.set_content(why.empty() ? "ok\n" : why + "\n", "text/plain");
    });
    http_.Get("/version", [this](const httplib::Request&, httplib::Response& r) {
      r.set_content(pages_.version, "application/json");
    });
  }

  ~server() override {
    http_.stop();
    if (thread_.joinable())
      thread_.join();
  }

  bool listen(const std::string& host, uint16_t port) {
    if (port == 0) {
      const int chosen = http_.bind_to_any_port(host.c_str());
      if (chosen <= 0)
        return false;
      port_ = static_cast<uint16_t>(chosen);
    } else {
      if (!http_.bind_to_port(host.c_str(), port))
        return false;
      port_ = port;
    }
    thread_ = std::thread{[this] { http_.listen_after_bind(); }};
    // stop() before this would be lost.
    while (!http_.is_running())
      std::this_thread::sleep_for(std::chrono::milliseconds{1});
    return true;
  }

  uint16_t port() const override { return port_; }

private:
  http_pages pages_;
  httplib::Server http_;
  uint16_t port_ = 0;
  std::thread thread_;
};

} // namespace

std::unique_ptr<http_server> http_server::start(const std::string& host, uint16_t port, http_pages pages,
                                                std::string& problem) {
  auto x = std::make_unique<server>(std::move(pages));
  errno = 0;
  if (x->listen(host, port))
    return x;
  problem = host + ":" + std::to_string(port) + ": " + (errno ? std::strerror(errno) : "cannot listen");
  return nullptr;
}

} // namespace varve
