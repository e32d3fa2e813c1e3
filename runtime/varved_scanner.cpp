#include "runtime/varved_scanner.hpp"

#include <sys/stat.h>

#include "runtime/storage/file_store.hpp"

namespace varve {

namespace {

tier_scan look(const std::string& folder) {
  tier_scan x;
  x.shards = scan_shard_files(folder, x.problems);
  for (const auto& h : x.shards) {
    struct stat s {};
    const auto path = folder + '/' + to_string(shard_file_name{h.id, h.generation});
    const bool found = ::stat(path.c_str(), &s) == 0;
    x.allocated_bytes.push_back(found ? static_cast<uint64_t>(s.st_blocks) * 512 : 0);
  }
  return x;
}

} // namespace

tier_scanner::tier_scanner(std::map<std::string, std::string> folders)
  : folders_(std::move(folders)), thread_([this] { run(); }) {}

tier_scanner::~tier_scanner() {
  {
    std::lock_guard guard{mutex_};
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void tier_scanner::scan(const std::string& tier, std::function<void(tier_scan)> done) {
  std::lock_guard guard{mutex_};
  jobs_.emplace_back(tier, std::move(done));
  changed_.notify_all();
}

void tier_scanner::run() {
  for (std::unique_lock guard{mutex_};;) {
    changed_.wait(guard, [this] { return stopping_ || !jobs_.empty(); });
    if (jobs_.empty())
      return;
    auto [tier, done] = std::move(jobs_.front());
    jobs_.pop_front();
    const auto at = folders_.find(tier);
    guard.unlock();
    done(at == folders_.end() ? tier_scan{} : look(at->second));
    guard.lock();
  }
}

} // namespace varve
