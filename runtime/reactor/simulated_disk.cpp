#include "runtime/reactor/simulated_disk.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <linux/falloc.h>

#include "runtime/reactor/simulated_ring.hpp"

namespace varve {

namespace {

// What is unsynced of one file beyond this is written back, as a kernel does in its own time.
constexpr size_t unsynced_changes_max = 4096;

// Without a trailing or doubled slash.
std::string normal(std::string_view path) {
  std::string result;
  for (auto c : path)
    if (c != '/' || result.empty() || result.back() != '/')
      result += c;
  if (result.size() > 1 && result.back() == '/')
    result.pop_back();
  return result;
}

std::string folder_of(const std::string& path) {
  auto slash = path.rfind('/');
  if (slash == std::string::npos)
    return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

// Calls f(offset, length) for the parts of a range that lie between multiples of `unit`.
template <class F>
void for_parts(uint64_t offset, uint64_t length, uint64_t unit, F f) {
  const auto end = offset + length;
  while (offset < end) {
    const auto next = std::min(end, (offset / unit + 1) * unit);
    f(offset, next - offset);
    offset = next;
  }
}

// Copies between `memory` and the bytes that start `at` bytes into the vectors.
template <class F>
void for_vector_parts(const ring_operation& x, uint64_t at, uint64_t length, F f) {
  uint64_t done = 0;
  for (uint32_t i = 0; i < x.vector_count && done < length; ++i) {
    const auto& vector = x.vectors[i];
    if (at >= vector.iov_len) {
      at -= vector.iov_len;
      continue;
    }
    const auto count = std::min<uint64_t>(vector.iov_len - at, length - done);
    f(static_cast<std::byte*>(vector.iov_base) + at, done, count);
    done += count;
    at = 0;
  }
}

bool always() {
  return true;
}

} // namespace

// -- images
// -------------------------------------------------------------------------------------------------------------

simulated_disk::page& simulated_disk::image::touch(uint64_t index) {
  auto& result = pages[index];
  if (!result) {
    result = std::make_unique<page>();
    result->fill(std::byte{0});
  }
  return *result;
}

void simulated_disk::image::copy_from(const image& other) {
  pages.clear();
  for (auto& [index, bytes] : other.pages)
    pages.emplace(index, std::make_unique<page>(*bytes));
  size = other.size;
}

void simulated_disk::image::read(uint64_t offset, std::span<std::byte> into) const {
  const auto start = offset;
  for_parts(offset, into.size(), page_size, [&](uint64_t at, uint64_t length) {
    auto* target = into.data() + (at - start);
    if (auto found = pages.find(at / page_size); found != pages.end())
      std::memcpy(target, found->second->data() + at % page_size, length);
    else
      std::memset(target, 0, length);
  });
}

void simulated_disk::image::write(uint64_t offset, std::span<const std::byte> from) {
  const auto start = offset;
  for_parts(offset, from.size(), page_size, [&](uint64_t at, uint64_t length) {
    std::memcpy(touch(at / page_size).data() + at % page_size, from.data() + (at - start), length);
  });
}

void simulated_disk::image::zero(uint64_t offset, uint64_t length) {
  for_parts(offset, length, page_size, [&](uint64_t at, uint64_t count) {
    if (auto found = pages.find(at / page_size); found != pages.end())
      std::memset(found->second->data() + at % page_size, 0, count);
  });
}

void simulated_disk::image::punch(uint64_t offset, uint64_t length) {
  if (length / page_size > pages.size()) {
    // A range much larger than what there is: look at what there is.
    const auto first = (offset + page_size - 1) / page_size, last = (offset + length) / page_size;
    std::erase_if(pages, [&](const auto& x) { return x.first >= first && x.first < last; });
    if (first <= last) {
      zero(offset, std::min(length, first * page_size - offset));
      zero(last * page_size, offset + length - last * page_size);
    }
    return;
  }
  for_parts(offset, length, page_size, [&](uint64_t at, uint64_t count) {
    if (count == page_size)
      pages.erase(at / page_size);
    else
      zero(at, count);
  });
}

void simulated_disk::image::resize(uint64_t to) {
  resize_from(size, to);
}

void simulated_disk::image::resize_from(uint64_t from, uint64_t to) {
  if (to < from) {
    std::erase_if(pages, [&](const auto& x) { return x.first * page_size >= to; });
    if (to % page_size)
      zero(to, page_size - to % page_size);
  }
  size = to;
}

// What lies beyond the end must not come back when the file grows.
void simulated_disk::image::cut_tail() {
  resize_from(std::numeric_limits<uint64_t>::max(), size);
}

// -- changes
// ------------------------------------------------------------------------------------------------------------

// Applies to an image what `keep` keeps: data sector by sector, holes page by page, a size as one.
void simulated_disk::apply(image& to, const change& x, keep_function keep) {
  switch (x.kind) {
  case change_kind::write:
    for_parts(x.offset, x.length, sector_size, [&](uint64_t at, uint64_t length) {
      if (keep())
        to.write(at, std::span{x.bytes}.subspan(at - x.offset, length));
    });
    break;
  case change_kind::zero:
  case change_kind::allocate:
    for_parts(x.offset, x.length, page_size, [&](uint64_t at, uint64_t length) {
      if (!keep())
        return;
      to.touch(at / page_size);
      if (x.kind == change_kind::zero)
        to.zero(at, length);
    });
    break;
  case change_kind::punch:
    for_parts(x.offset, x.length, page_size, [&](uint64_t at, uint64_t length) {
      if (keep())
        to.punch(at, length);
    });
    break;
  case change_kind::resize:
    if (keep())
      to.resize(x.length);
    return;
  }
  if (x.extends && x.offset + x.length > to.size && keep())
    to.size = x.offset + x.length;
}

void simulated_disk::record(inode& file, change x) {
  x.sequence = ++sequence_;
  const auto before = file.cached.pages.size();
  apply(file.cached, x, always);
  *used_pages_ += file.cached.pages.size() - before; // wraps around when pages went: so does the sum
  file.unsynced.push_back(std::move(x));
  write_back_old(file);
}

void simulated_disk::write_back_old(inode& file) {
  while (file.unsynced.size() > unsynced_changes_max) {
    apply(file.durable, file.unsynced.front(), always);
    file.unsynced.pop_front();
  }
}

void simulated_disk::apply(std::map<std::string, std::shared_ptr<inode>>& to, const entry_change& x) {
  if (!x.from.empty())
    to.erase(x.from);
  if (!x.to.empty())
    to[x.to] = x.file;
}

// -- the tests' view
// ------------------------------------------------------------------------------------------------------

simulated_disk::simulated_disk(simulated_world& world, simulated_disk_options options)
  : world_(world), options_(options) {
  folders_.insert("/");
  folders_.insert(".");
}

simulated_disk::~simulated_disk() {
  kill_rings();
}

void simulated_disk::make_folder(const std::string& path) {
  for (auto at = normal(path); folders_.insert(at).second; at = folder_of(at))
    continue;
}

std::vector<std::string> simulated_disk::list(const std::string& folder) const {
  std::vector<std::string> result;
  const auto wanted = normal(folder);
  for (auto& [path, file] : names_)
    if (folder_of(path) == wanted)
      result.push_back(path.substr(path.rfind('/') + 1));
  return result;
}

bool simulated_disk::exists(const std::string& path) const {
  return names_.contains(normal(path));
}

std::vector<std::byte> simulated_disk::contents(const std::string& path) const {
  auto found = names_.find(normal(path));
  if (found == names_.end())
    return {};
  std::vector<std::byte> result(found->second->cached.size);
  found->second->cached.read(0, result);
  return result;
}

void simulated_disk::put(const std::string& path, std::span<const std::byte> bytes) {
  const auto name = normal(path);
  make_folder(folder_of(name));
  remove(name);
  auto file = std::make_shared<inode>(used_pages_);
  change x;
  x.length = bytes.size();
  x.extends = true;
  x.bytes.assign(bytes.begin(), bytes.end());
  record(*file, std::move(x));
  apply(file->durable, file->unsynced.front(), always);
  file->unsynced.clear();
  names_[name] = durable_names_[name] = file;
}

void simulated_disk::remove(const std::string& path) {
  const auto name = normal(path);
  names_.erase(name);
  durable_names_.erase(name);
  std::erase_if(unsynced_names_, [&](const auto& x) { return x.from == name || x.to == name; });
}

void simulated_disk::sync_all() {
  for (auto& [name, file] : names_) {
    for (const auto& x : file->unsynced)
      apply(file->durable, x, always);
    file->unsynced.clear();
  }
  durable_names_ = names_;
  unsynced_names_.clear();
}

uint64_t simulated_disk::size_of(const std::string& path) const {
  auto found = names_.find(normal(path));
  return found == names_.end() ? 0 : found->second->cached.size;
}

uint64_t simulated_disk::allocated_bytes(const std::string& path) const {
  auto found = names_.find(normal(path));
  return found == names_.end() ? 0 : found->second->cached.pages.size() * page_size;
}

uint64_t simulated_disk::used_bytes() const noexcept {
  return *used_pages_ * page_size;
}

uint64_t simulated_disk::unsynced_bytes() const noexcept {
  uint64_t result = 0;
  for (auto& [path, file] : names_)
    for (auto& x : file->unsynced)
      result += x.bytes.size();
  return result;
}

// -- faults
// ---------------------------------------------------------------------------------------------------------------

void simulated_disk::inject(simulated_fault x) {
  faults_.push_back(std::move(x));
}

void simulated_disk::clear_faults() {
  faults_.clear();
}

void simulated_disk::release_hung() {
  for (auto* ring : rings_)
    ring->release_hung();
}

bool simulated_disk::corrupt(const std::string& path, uint64_t byte_offset, unsigned bit) {
  auto found = names_.find(normal(path));
  if (found == names_.end())
    return false;
  auto flipped = false;
  for (auto* where : {&found->second->cached, &found->second->durable})
    if (auto at = where->pages.find(byte_offset / page_size); at != where->pages.end()) {
      (*at->second)[byte_offset % page_size] ^= std::byte{1} << (bit % 8);
      flipped = true;
    }
  return flipped;
}

simulated_disk::verdict simulated_disk::judge(const ring_operation& x) {
  std::string path;
  if (x.path)
    path = normal(x.path);
  else if (auto found = open_.find(x.fd); found != open_.end())
    path = found->second.path;
  verdict result;
  for (auto fault = faults_.rbegin(); fault != faults_.rend(); ++fault) {
    if ((fault->op && *fault->op != x.op) || path.find(fault->path_part) == std::string::npos || fault->count == 0)
      continue;
    if (fault->skip > 0) {
      --fault->skip;
      continue;
    }
    --fault->count;
    result.hang = fault->hang;
    result.error = fault->hang ? 0 : fault->error;
    break;
  }
  return result;
}

void simulated_disk::kill_rings() {
  for (auto* ring : std::exchange(rings_, {}))
    ring->die();
  open_.clear();
}

void simulated_disk::kill() {
  for (auto* ring : rings_)
    ring->apply_some_in_flight();
  kill_rings();
  world_.note(1, sequence_);
}

void simulated_disk::power_loss(simulated_random& random) {
  kill();
  // Sometimes nearly all is lost, sometimes nearly nothing: the rare mixtures are where the bugs are.
  constexpr double shares[] = {0, 0.03, 0.25, 0.5, 0.75, 0.97, 1};
  const auto share = shares[random.below(std::size(shares))];
  const auto keep = [&] { return random.chance(share); };
  std::set<inode*> seen;
  std::vector<std::shared_ptr<inode>> files; // in a seeded order: by name, then by change
  const auto visit = [&](const std::shared_ptr<inode>& file) {
    if (file && seen.insert(file.get()).second)
      files.push_back(file);
  };
  for (auto& [path, file] : durable_names_)
    visit(file);
  for (auto& x : unsynced_names_)
    visit(x.file);
  for (auto& [path, file] : names_)
    visit(file);
  for (auto& x : std::exchange(unsynced_names_, {}))
    if (keep())
      apply(durable_names_, x);
  for (auto& file : files) {
    for (auto& x : std::exchange(file->unsynced, {}))
      apply(file->durable, x, keep);
    file->durable.cut_tail();
    *used_pages_ -= file->cached.pages.size();
    file->cached.copy_from(file->durable);
    *used_pages_ += file->cached.pages.size();
  }
  names_ = durable_names_;
  world_.note(2, sequence_);
}

// -- the rings' view
// ------------------------------------------------------------------------------------------------------

int32_t simulated_disk::check(const ring_operation& x) const {
  switch (x.op) {
  case ring_op::open:
  case ring_op::unlink:
  case ring_op::rename: return 0;
  default: break;
  }
  auto found = open_.find(x.fd);
  if (found == open_.end())
    return -EBADF;
  if (x.op == ring_op::close || x.op == ring_op::sync)
    return 0;
  const auto& file = found->second;
  if (!file.file)
    return -EISDIR;
  const auto access = file.flags & O_ACCMODE;
  if (x.op == ring_op::read ? access == O_WRONLY : access == O_RDONLY)
    return x.op == ring_op::truncate ? -EINVAL : -EBADF;
  if ((x.op == ring_op::read || x.op == ring_op::write) && (file.flags & O_DIRECT)) {
    auto bits = x.offset;
    for (uint32_t i = 0; i < x.vector_count; ++i)
      bits |= x.vectors[i].iov_len | reinterpret_cast<uintptr_t>(x.vectors[i].iov_base);
    if (bits % options_.direct_alignment)
      return -EINVAL;
  }
  return 0;
}

uint64_t simulated_disk::size_of(int fd) const {
  auto found = open_.find(fd);
  return found == open_.end() || !found->second.file ? 0 : found->second.file->cached.size;
}

bool simulated_disk::has_room(const ring_operation& x) const {
  const auto pages = detail::bytes_of(x) / page_size + 2;
  return used_bytes() + pages * page_size <= options_.capacity_bytes;
}

int32_t simulated_disk::move_piece(const ring_operation& x, uint64_t offset, uint64_t length) {
  auto found = open_.find(x.fd);
  if (found == open_.end())
    return -EBADF; // closed meanwhile
  auto& file = *found->second.file;
  const auto at = offset - x.offset;
  if (x.op == ring_op::read) {
    length = std::min(length, file.cached.size - std::min(offset, file.cached.size));
    for_vector_parts(x, at, length, [&](std::byte* memory, uint64_t done, uint64_t count) {
      file.cached.read(offset + done, {memory, count});
    });
    return 0;
  }
  if (!file.cached.pages.contains(offset / page_size) && used_bytes() + page_size > options_.capacity_bytes)
    return -ENOSPC;
  change y;
  y.offset = offset;
  y.length = length;
  y.extends = true;
  y.bytes.resize(length);
  for_vector_parts(x, at, length, [&](std::byte* memory, uint64_t done, uint64_t count) {
    std::memcpy(y.bytes.data() + done, memory, count);
  });
  record(file, std::move(y));
  return 0;
}

int32_t simulated_disk::open(const char* path, int flags) {
  const auto name = normal(path);
  open_file result{nullptr, name, flags};
  if (folders_.contains(name)) {
    if ((flags & O_ACCMODE) != O_RDONLY || (flags & O_CREAT))
      return -EISDIR;
  } else if (auto found = names_.find(name); found != names_.end()) {
    if ((flags & O_CREAT) && (flags & O_EXCL))
      return -EEXIST;
    if (flags & O_DIRECTORY)
      return -ENOTDIR;
    result.file = found->second;
    if ((flags & O_TRUNC) && (flags & O_ACCMODE) != O_RDONLY)
      record(*result.file, change{0, change_kind::resize});
  } else {
    if (!(flags & O_CREAT) || !folders_.contains(folder_of(name)))
      return -ENOENT;
    result.file = std::make_shared<inode>(used_pages_);
    names_[name] = result.file;
    unsynced_names_.push_back({++sequence_, {}, name, result.file});
  }
  const auto fd = next_fd_++;
  open_.emplace(fd, std::move(result));
  return fd;
}

int32_t simulated_disk::close(int fd) {
  return open_.erase(fd) ? 0 : -EBADF;
}

int32_t simulated_disk::sync(int fd, uint64_t until) {
  auto found = open_.find(fd);
  if (found == open_.end())
    return -EBADF;
  if (auto* file = found->second.file.get()) {
    while (!file->unsynced.empty() && file->unsynced.front().sequence <= until) {
      apply(file->durable, file->unsynced.front(), always);
      file->unsynced.pop_front();
    }
    return 0;
  }
  const auto& folder = found->second.path;
  std::erase_if(unsynced_names_, [&](const entry_change& x) {
    const auto mine = (!x.from.empty() && folder_of(x.from) == folder) || (!x.to.empty() && folder_of(x.to) == folder);
    if (!mine || x.sequence > until)
      return false;
    apply(durable_names_, x);
    return true;
  });
  return 0;
}

// The kernel takes what could not be written for clean: a later sync does not know of it.
void simulated_disk::fail_sync(int fd, uint64_t until) {
  auto found = open_.find(fd);
  if (found == open_.end() || !found->second.file)
    return;
  auto& file = *found->second.file;
  std::deque<change> left;
  for (auto& x : file.unsynced)
    if (x.sequence > until || world_.random().chance(0.5))
      left.push_back(std::move(x));
  file.unsynced = std::move(left);
}

int32_t simulated_disk::allocate(const ring_operation& x) {
  auto found = open_.find(x.fd);
  if (found == open_.end())
    return -EBADF;
  if (x.length == 0)
    return -EINVAL;
  auto& file = *found->second.file;
  change y;
  y.offset = x.offset;
  y.length = x.length;
  y.extends = !(x.flags & FALLOC_FL_KEEP_SIZE);
  switch (x.flags & ~FALLOC_FL_KEEP_SIZE) {
  case FALLOC_FL_PUNCH_HOLE:
    if (y.extends)
      return -EOPNOTSUPP;
    y.kind = change_kind::punch;
    break;
  case FALLOC_FL_ZERO_RANGE: y.kind = change_kind::zero; break;
  case 0: y.kind = change_kind::allocate; break;
  default: return -EOPNOTSUPP;
  }
  if (y.kind != change_kind::punch) {
    uint64_t pages = 0;
    for_parts(y.offset, y.length, page_size,
              [&](uint64_t at, uint64_t) { pages += !file.cached.pages.contains(at / page_size); });
    if (pages > 0 && used_bytes() + pages * page_size > options_.capacity_bytes)
      return -ENOSPC;
  }
  record(file, std::move(y));
  return 0;
}

int32_t simulated_disk::truncate(const ring_operation& x) {
  auto found = open_.find(x.fd);
  if (found == open_.end())
    return -EBADF;
  change y;
  y.kind = change_kind::resize;
  y.length = x.offset;
  record(*found->second.file, std::move(y));
  return 0;
}

int32_t simulated_disk::unlink(const char* path) {
  const auto name = normal(path);
  if (folders_.contains(name))
    return -EISDIR;
  auto found = names_.find(name);
  if (found == names_.end())
    return -ENOENT;
  // The change keeps the file: its removal may be lost, and then it is there again.
  unsynced_names_.push_back({++sequence_, name, {}, found->second});
  names_.erase(found);
  return 0;
}

int32_t simulated_disk::rename(const char* from, const char* to) {
  const auto old_name = normal(from), new_name = normal(to);
  auto found = names_.find(old_name);
  if (found == names_.end() || !folders_.contains(folder_of(new_name)))
    return -ENOENT;
  if (folders_.contains(new_name))
    return -EISDIR;
  if (old_name == new_name)
    return 0;
  entry_change x{++sequence_, old_name, new_name, found->second};
  apply(names_, x);
  unsynced_names_.push_back(std::move(x));
  return 0;
}

} // namespace varve
