#include "runtime/recovery/catalog_extract.hpp"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <sstream>
#include <thread>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "rdma/checksum.hpp"
#include "runtime/catalog/records.hpp"
#include "runtime/recovery/tier_claims.hpp"
#include "runtime/storage/durable_file.hpp"

namespace varve {

namespace {

constexpr uint64_t extract_version = 1;
/// Thousands of volumes fit ten times.
constexpr uint64_t extract_bytes_max = 64ull << 20;

bool is_extracted(const std::string& key) {
  return key.starts_with(key::volumes) || key.starts_with(key::tiers) || key.starts_with(key::former_tiers);
}

uint32_t crc_of(std::string_view x) {
  return crc32c(std::as_bytes(std::span{x}));
}

} // namespace

const std::string* catalog_extract::find(const std::string& key) const {
  for (const auto& x : entries)
    if (x.key == key)
      return &x.value;
  return nullptr;
}

std::string encode(const catalog_extract& x) {
  std::string body;
  for (const auto& e : x.entries)
    body +=
      nlohmann::json::array({e.key, e.value}).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
  return fmt::format("varve-extract {} revision {} entries {} crc32c {:08x}\n", extract_version, x.revision,
                     x.entries.size(), crc_of(body)) +
         body;
}

errc decode(const std::string& text, catalog_extract& out, std::string& problem) {
  out = {};
  const auto end = text.find('\n');
  uint64_t version = 0, entries = 0;
  std::istringstream head{text.substr(0, end == std::string::npos ? 0 : end)};
  std::string word, of_revision, of_entries, of_crc, crc;
  if (!(head >> word >> version >> of_revision >> out.revision >> of_entries >> entries >> of_crc >> crc) ||
      word != "varve-extract" || of_revision != "revision" || of_entries != "entries" || of_crc != "crc32c") {
    problem = "expected a first line \"varve-extract …\"";
    return errc::bad_format;
  }
  if (version != extract_version) {
    problem = fmt::format("format version {}, this program knows up to {}", version, extract_version);
    return errc::bad_format;
  }
  const auto body = std::string_view{text}.substr(end + 1);
  if (fmt::format("{:08x}", crc_of(body)) != crc) {
    problem = "its checksum does not match";
    return errc::bad_format;
  }
  for (auto rest = body; !rest.empty();) {
    const auto line = rest.substr(0, rest.find('\n'));
    const auto x = nlohmann::json::parse(line, nullptr, false);
    if (!x.is_array() || x.size() != 2 || !x[0].is_string() || !x[1].is_string()) {
      problem = "expected lines [key, value]";
      return errc::bad_format;
    }
    out.entries.push_back({x[0].get<std::string>(), x[1].get<std::string>(), 0});
    rest.remove_prefix(std::min(rest.size(), line.size() + 1));
  }
  if (out.entries.size() != entries) {
    problem = fmt::format("expected {} entries, found {}", entries, out.entries.size());
    return errc::bad_format;
  }
  return errc::none;
}

errc read_extract(const std::string& folder, catalog_extract& out, std::string& problem) {
  const auto path = folder + '/' + std::string{extract_file};
  std::string text;
  auto status = read_whole_file(path, extract_bytes_max, text, problem);
  if (status != errc::none)
    return status;
  status = decode(text, out, problem);
  if (status != errc::none)
    problem = path + ": " + problem;
  return status;
}

errc extract_from(catalog_store& store, catalog_extract& out, std::string& problem) {
  out = {};
  // In this order: see the header.
  for (const auto& prefix : {key::meta, key::volumes, key::tiers, key::former_tiers}) {
    auto x = list_now(store, prefix);
    if (x.status != errc::none) {
      problem = fmt::format("catalog: {}: {}", to_string(x.status), x.context);
      return x.status;
    }
    if (prefix == key::meta)
      out.revision = x.revision;
    std::move(x.entries.begin(), x.entries.end(), std::back_inserter(out.entries));
  }
  return errc::none;
}

class extracting_store::writer {
public:
  writer(std::shared_ptr<catalog_store> from, extract_options options)
    : from_(std::move(from)), options_(std::move(options)), thread_([this] { run(); }) {}

  void stop() {
    {
      std::lock_guard guard{mutex_};
      stopping_ = true;
    }
    changed_.notify_all();
    if (thread_.joinable())
      thread_.join();
  }
  void mark() {
    {
      std::lock_guard guard{mutex_};
      due_ = true;
    }
    changed_.notify_all();
  }

private:
  void run() {
    for (std::unique_lock guard{mutex_};;) {
      changed_.wait(guard, [this] { return stopping_ || due_; });
      if (!due_)
        return;
      changed_.wait_for(guard, options_.delay, [this] { return stopping_; });
      // Before it is read: what comes meanwhile is due again.
      due_ = false;
      guard.unlock();
      const auto problem = write();
      if (!problem.empty() && !failed_ && options_.on_problem)
        options_.on_problem(problem);
      failed_ = !problem.empty();
      guard.lock();
      if (failed_ && !stopping_) {
        changed_.wait_for(guard, options_.retry, [this] { return stopping_; });
        due_ = true;
      }
    }
  }

  std::string write() {
    catalog_extract x;
    std::string problem;
    if (extract_from(*from_, x, problem) != errc::none)
      return problem;
    const auto text = encode(x);
    std::string all;
    for (const auto& folder : options_.folders)
      if (!write_file_durably(folder + '/' + std::string{extract_file}, text, problem))
        all += (all.empty() ? "" : "; ") + problem;
    return all;
  }

  std::shared_ptr<catalog_store> from_;
  const extract_options options_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool due_ = true; // at the beginning: what a crash kept from being written
  bool stopping_ = false;
  bool failed_ = false; // the thread's
  std::thread thread_;  // last: runs on all of the above
};

extracting_store::extracting_store(std::shared_ptr<catalog_store> to, extract_options options)
  : to_(std::move(to)), writer_(std::make_shared<writer>(to_, std::move(options))) {}

extracting_store::~extracting_store() {
  writer_->stop();
}

void extracting_store::commit(catalog_batch batch, callback done) {
  if (std::none_of(batch.changes.begin(), batch.changes.end(), [](auto& x) { return is_extracted(x.key); })) {
    to_->commit(std::move(batch), std::move(done));
    return;
  }
  to_->commit(std::move(batch), [done = std::move(done), writer = std::weak_ptr{writer_}](catalog_result x) {
    if (x.status == errc::none)
      if (auto alive = writer.lock())
        alive->mark();
    done(std::move(x));
  });
}

void extracting_store::list(std::string prefix, std::string after, size_t limit, callback done) {
  to_->list(std::move(prefix), std::move(after), limit, std::move(done));
}

} // namespace varve
