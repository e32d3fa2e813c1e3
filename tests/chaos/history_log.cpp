#include "tests/chaos/history_log.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <stdexcept>
#include <system_error>
#include <tuple>
#include <unordered_map>

#include <fcntl.h>
#include <unistd.h>

namespace varve::chaos {

namespace {

struct log_head {
  std::array<char, 8> magic{'V', 'S', 'T', 'A', 'M', 'P', 'S', '1'};
  uint64_t volume = 0;
};

void write_all(int fd, const void* data, size_t size) {
  // A record is far smaller than a page: a file takes all of it or fails.
  if (auto put = ::write(fd, data, size); put != static_cast<ssize_t>(size))
    throw std::system_error(put < 0 ? errno : ENOSPC, std::generic_category(), "history log");
}

void read_log(const std::filesystem::path& path, const std::function<void(const logged_operation&)>& f) {
  std::ifstream file(path, std::ios::binary);
  log_head head;
  if (!file.read(reinterpret_cast<char*>(&head), sizeof head) || head.magic != log_head{}.magic)
    throw std::runtime_error(path.string() + ": not a log of stamps");
  std::unordered_map<uint64_t, logged_operation> open;
  log_record x;
  while (file.read(reinterpret_cast<char*>(&x), sizeof x)) {
    if (x.event == log_event::write_begins || x.event == log_event::read_begins) {
      const auto what = x.event == log_event::write_begins ? operation::kind::write : operation::kind::read;
      open[x.operation] = {head.volume, x.block, {what, x.value, x.time, never}, std::nullopt, never};
      continue;
    }
    auto node = open.extract(x.operation);
    if (node.empty())
      throw std::runtime_error(path.string() + ": an operation ends that did not begin");
    auto& op = node.mapped();
    op.outcome = x.event;
    op.over = x.time;
    if (x.event == log_event::done || x.event == log_event::garbled)
      op.op.end = x.time;
    if (x.event == log_event::done && op.op.what == operation::kind::read)
      op.op.value = x.value;
    f(op);
  }
  for (const auto& [id, op] : open)
    f(op);
}

} // namespace

history_log::history_log(const std::filesystem::path& path, uint64_t volume)
  : fd_(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644)) {
  if (fd_ < 0)
    throw std::system_error(errno, std::generic_category(), path.string());
  log_head head;
  head.volume = volume;
  write_all(fd_, &head, sizeof head);
}

history_log::~history_log() {
  ::close(fd_);
}

void history_log::append(const log_record& x) {
  write_all(fd_, &x, sizeof x);
}

void for_each_operation(const std::vector<std::filesystem::path>& paths,
                        const std::function<void(const logged_operation&)>& f) {
  for (const auto& path : paths)
    read_log(path, f);
}

history read_logs(const std::vector<std::filesystem::path>& paths) {
  history all;
  for_each_operation(paths, [&](const logged_operation& x) {
    const auto read = x.op.what == operation::kind::read;
    ++(read ? all.reads : all.writes);
    if (x.outcome == log_event::garbled)
      all.garbled.push_back(x);
    else if (!read || x.outcome == log_event::done)
      all.operations.push_back(x);
    if (!x.outcome)
      ++all.unanswered;
    else if (x.outcome == log_event::failed)
      ++all.failed;
    else if (x.outcome == log_event::lost)
      ++all.lost;
  });
  std::sort(all.operations.begin(), all.operations.end(), [](auto& a, auto& b) {
    return std::tie(a.volume, a.block, a.op.begin) < std::tie(b.volume, b.block, b.op.begin);
  });
  return all;
}

} // namespace varve::chaos
