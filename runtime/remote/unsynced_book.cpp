#include "runtime/remote/unsynced_book.hpp"

#include <array>
#include <cassert>
#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "rdma/checksum.hpp"
#include "runtime/remote/remote_protocol.hpp"

namespace varve {

namespace {

constexpr uint32_t magic = 0x42555656; // "VVUB"
/// CRC32C, magic, seven numbers, the length of the tier's name.
constexpr size_t name_at = 4 + 4 + 7 * 8 + 1;
constexpr size_t name_bytes_max = unsynced_book::record_bytes - name_at;

} // namespace

unsynced_book::unsynced_book(uint64_t machine_boot, std::span<const std::byte> found, writer write)
  : machine_boot_(machine_boot), write_(std::move(write)) {
  for (; found.size() >= record_bytes; found = found.subspan(record_bytes)) {
    key k;
    entry x;
    x.slot = slots_++;
    if (!decode(found.first(record_bytes), k, x) || !entries_.emplace(std::move(k), x).second)
      free_.push_back(x.slot);
  }
}

void unsynced_book::encode(const key& k, const entry& x, std::byte* to) const {
  auto* at = remote::store(to + 4, magic);
  for (auto value : {machine_boot_, k.id.volume.value(), x.holder.value(), k.id.index.value(), k.of.value(), x.verifier,
                     uint64_t{0}})
    at = remote::store(at, value);
  at = remote::store(at, static_cast<uint8_t>(k.tier.size()));
  std::memcpy(at, k.tier.data(), k.tier.size());
  remote::store(to, crc32c({to + 4, record_bytes - 4}));
}

bool unsynced_book::decode(std::span<const std::byte> from, key& k, entry& x) const {
  if (remote::load<uint32_t>(from.data()) != crc32c(from.subspan(4)) ||
      remote::load<uint32_t>(from.data() + 4) != magic)
    return false;
  auto number = [&](size_t i) { return remote::load<uint64_t>(from.data() + 8 + i * 8); };
  const auto length = remote::load<uint8_t>(from.data() + name_at - 1);
  if (number(0) != machine_boot_ || length > name_bytes_max)
    return false;
  k.id = {volume_id{number(1)}, shard_index{number(3)}};
  k.of = generation{number(4)};
  k.tier.assign(reinterpret_cast<const char*>(from.data() + name_at), length);
  x.holder = holder_id{number(2)};
  x.verifier = number(5);
  return true;
}

void unsynced_book::erase(std::map<key, entry>::iterator at) {
  constexpr std::array<std::byte, record_bytes> nothing{};
  // One that stays makes a FLUSH too many.
  (void)write_(at->second.slot, nothing);
  free_.push_back(at->second.slot);
  entries_.erase(at);
}

std::vector<inherited_shard> unsynced_book::begin(volume_id volume, holder_id holder) {
  std::lock_guard guard{mutex_};
  holders_[volume] = holder;
  std::vector<inherited_shard> result;
  for (auto at = entries_.lower_bound({{volume, shard_index{0}}, {}, {}});
       at != entries_.end() && at->first.id.volume == volume;) {
    const auto next = std::next(at);
    if (at->second.holder == holder)
      result.push_back({at->first.tier, at->first.id, at->first.of, at->second.verifier});
    else
      erase(at);
    at = next;
  }
  return result;
}

bool unsynced_book::note(const inherited_shard& x) {
  std::lock_guard guard{mutex_};
  const auto holder = holders_.find(x.id.volume);
  if (holder == holders_.end())
    return true;
  auto [at, made] = entries_.try_emplace(key_of(x));
  auto& mine = at->second;
  if (!made && mine.holder == holder->second)
    return true; // the older verifier says more
  if (made && free_.empty()) {
    mine.slot = slots_++;
  } else if (made) {
    mine.slot = free_.back();
    free_.pop_back();
  }
  mine.holder = holder->second;
  mine.verifier = x.verifier;
  assert(x.tier.size() <= name_bytes_max);
  std::array<std::byte, record_bytes> record{};
  encode(at->first, mine, record.data());
  if (write_(mine.slot, record))
    return true;
  ++failures_;
  free_.push_back(mine.slot);
  entries_.erase(at);
  return false;
}

void unsynced_book::forget(const inherited_shard& x) {
  std::lock_guard guard{mutex_};
  if (auto at = entries_.find(key_of(x)); at != entries_.end())
    erase(at);
}

size_t unsynced_book::size() const {
  std::lock_guard guard{mutex_};
  return entries_.size();
}

uint64_t unsynced_book::failures() const {
  std::lock_guard guard{mutex_};
  return failures_;
}

std::shared_ptr<unsynced_book> open_unsynced_book(const std::string& path, uint64_t machine_boot,
                                                  std::string& problem) {
  struct descriptor {
    int fd = -1;
    ~descriptor() {
      if (fd >= 0)
        ::close(fd);
    }
  };
  auto file = std::make_shared<descriptor>();
  file->fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  struct stat seen {};
  if (file->fd < 0 || ::fstat(file->fd, &seen) != 0) {
    problem = path + ": " + std::strerror(errno);
    return nullptr;
  }
  std::vector<std::byte> found(static_cast<size_t>(seen.st_size));
  for (size_t at = 0; at < found.size();) {
    const auto n = ::pread(file->fd, found.data() + at, found.size() - at, static_cast<off_t>(at));
    if (n <= 0) {
      problem = path + ": " + (n < 0 ? std::strerror(errno) : "it ends early");
      return nullptr;
    }
    at += static_cast<size_t>(n);
  }
  return std::make_shared<unsynced_book>(machine_boot, found, [file](uint64_t slot, std::span<const std::byte> record) {
    return ::pwrite(file->fd, record.data(), record.size(), static_cast<off_t>(slot * unsynced_book::record_bytes)) ==
           static_cast<ssize_t>(record.size());
  });
}

} // namespace varve
