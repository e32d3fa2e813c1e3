#pragma once

#include <map>
#include <string>
#include <tuple>
#include <utility>

#include "runtime/remote/remote_io.hpp"

namespace varve {

/// What the data path would be told of the other nodes.
class fake_remote_io : public remote_io {
public:
  explicit fake_remote_io(uint32_t reactors = 2) : reactors_(reactors) {}

  uint32_t reactors() const noexcept override { return reactors_; }
  void allow(uint32_t reactor, session_key key) override { allowed[{reactor, key.id}] = key; }
  void disallow(uint32_t reactor, uint64_t key) override {
    allowed.erase({reactor, key});
    ++disallowed;
  }
  void set_key(const std::string& node, uint32_t theirs, uint32_t own, uint16_t port, session_key key) override {
    keys[{node, theirs, own}] = key;
    ports[{node, theirs}] = port;
    ++keys_set;
  }
  void set_reactors(const std::string& node, uint32_t count) override {
    counts[node] = count;
    std::erase_if(keys, [&](auto& x) { return std::get<0>(x.first) == node && std::get<1>(x.first) >= count; });
  }
  void on_session(
    std::function<void(std::string node, uint32_t theirs, uint32_t own, remote_session_state state)> told) override {
    session = std::move(told);
  }

  std::map<std::pair<uint32_t, uint64_t>, session_key> allowed;
  size_t disallowed = 0;
  std::map<std::tuple<std::string, uint32_t, uint32_t>, session_key> keys;
  std::map<std::pair<std::string, uint32_t>, uint16_t> ports;
  size_t keys_set = 0;
  std::map<std::string, uint32_t> counts;
  std::function<void(std::string, uint32_t, uint32_t, remote_session_state)> session;

private:
  uint32_t reactors_;
};

} // namespace varve
