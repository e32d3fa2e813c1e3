#include "runtime/storage/file_store.hpp"

#include <algorithm>
#include <cerrno>
#include <charconv>

#include <fcntl.h>
#include <fmt/format.h>

#include "runtime/reactor/io.hpp"

namespace varve {

namespace {

using namespace std::chrono_literals;

// Checkpoints at the same time: each is a handful of syncs that foreground I/O waits behind.
constexpr size_t background_max = 4;

shard_file_name name_of(const shard_header& x) {
  return {x.id, x.generation};
}

/// What the owner of an open shard holds. The file shard itself may live on for the rest of an idle checkpoint.
class open_file_shard final : public shard {
public:
  explicit open_file_shard(std::shared_ptr<file_shard> x) : x_(std::move(x)) { x_->set_owned(true); }
  ~open_file_shard() override { x_->set_owned(false); }

  const shard_header& header() const noexcept override { return x_->header(); }
  task<errc> read(uint64_t offset, std::span<std::byte> into) override { return x_->read(offset, into); }
  std::span<const std::byte> pin(uint64_t, uint64_t) noexcept override { return {}; }
  void unpin() noexcept override {}
  task<errc> write(uint64_t offset, std::span<const std::byte> from) override { return x_->write(offset, from); }
  task<errc> trim(uint64_t offset, uint64_t length) override { return x_->trim(offset, length); }
  task<errc> write_zeroes(uint64_t offset, uint64_t length, bool keep_allocated) override {
    return x_->write_zeroes(offset, length, keep_allocated);
  }
  task<errc> flush() override { return x_->flush(); }
  bool dirty() const noexcept override { return x_->dirty(); }
  void extents(uint64_t offset, uint64_t length, std::vector<shard_extent>& out) const override {
    x_->extents(offset, length, out);
  }
  uint64_t allocated_bytes() const noexcept override { return x_->allocated_bytes(); }
  task<errc> checkpoint() override { return x_->checkpoint(); }
  task<errc> raise_fence(epoch to) override { return x_->raise_fence(to); }
  task<errc> seal(migration_id by, generation replaced_by) override { return x_->seal(by, replaced_by); }
  task<errc> complete(epoch fence) override { return x_->complete(fence); }
  task<uint64_t> verify(uint64_t offset, uint64_t length, errc& status) override {
    return x_->verify(offset, length, status);
  }
  void track_changes(bool on) override { x_->track_changes(on); }
  std::vector<shard_extent> take_changes() override { return x_->take_changes(); }
  void forget_changes(uint64_t offset, uint64_t length) override { x_->forget_changes(offset, length); }
  uint64_t changed_bytes() const noexcept override { return x_->changed_bytes(); }
  task<errc> read_with_sums(uint64_t offset, std::span<std::byte> into, block_sums& sums) override {
    return x_->read_with_sums(offset, into, sums);
  }
  task<errc> write_with_sums(uint64_t offset, std::span<const std::byte> from, const block_sums& sums) override {
    return x_->write_with_sums(offset, from, sums);
  }
  const block_sums& sums() const noexcept override { return x_->sums(); }

private:
  std::shared_ptr<file_shard> x_;
};

} // namespace

std::string to_string(const shard_file_name& x) {
  return fmt::format("v{:016x}-s{:010x}-g{:08x}.shard", x.id.volume.value(), x.id.index.value(), x.generation.value());
}

std::optional<shard_file_name> parse_shard_file_name(std::string_view x) {
  uint64_t numbers[3] = {};
  const std::string_view before[3] = {"v", "-s", "-g"};
  for (auto i = 0; i < 3; ++i) {
    if (!x.starts_with(before[i]))
      return std::nullopt;
    x.remove_prefix(before[i].size());
    auto [end, error] = std::from_chars(x.data(), x.data() + x.size(), numbers[i], 16);
    if (error != std::errc{})
      return std::nullopt;
    x.remove_prefix(static_cast<size_t>(end - x.data()));
  }
  if (x != ".shard")
    return std::nullopt;
  return shard_file_name{{volume_id{numbers[0]}, shard_index{numbers[1]}}, generation{numbers[2]}};
}

// -- what shards share ----------------------------------------------------------------------------------------------

class file_store::host final : public file_shard_host {
public:
  using file_shard_host::file_shard_host;

  ~host() override { cancel_timer(); }

  void expect_checkpoint() override {
    if (!timer_ && !ended_ && options.checkpoint_after > 0ns)
      set_timer(device.now() + options.checkpoint_after);
  }

  void closed(file_shard& x) override {
    auto found = open_.find({x.header().id, x.header().generation});
    if (found == open_.end() || found->second != &x)
      return; // never got into service
    open_.erase(found);
    gone_.notify_all();
  }

  /// The store is no more.
  void end() {
    ended_ = true;
    cancel_timer();
  }

  /// A name that is being made, opened, or removed belongs to who does that: errc::unavailable when it is not free.
  /// Waits for a shard that nobody owns any more but its idle checkpoint.
  task<errc> reserve(shard_file_name name) {
    for (;;) {
      auto found = open_.find(name);
      if (found == open_.end())
        break;
      if (!found->second || found->second->owned())
        co_return errc::unavailable;
      co_await gone_.wait();
    }
    open_[name] = nullptr;
    co_return errc::none;
  }
  void free(const shard_file_name& name) {
    open_.erase(name);
    gone_.notify_all();
  }
  std::unique_ptr<shard> serve(std::shared_ptr<file_shard> x) {
    open_[name_of(x->header())] = x.get();
    return std::make_unique<open_file_shard>(std::move(x));
  }

private:
  // On the heap by itself: it lives until the ring has given it back, perhaps longer than the host.
  struct timer {
    ring_operation operation; // first, so that the address of the one is the address of the other
    host* owner;
  };

  void set_timer(boot_time when) {
    timer_ = new timer{{}, this};
    timer_->operation.op = ring_op::timeout;
    timer_->operation.deadline = when;
    timer_->operation.complete = [](ring_operation& x) {
      std::unique_ptr<timer> ended{reinterpret_cast<timer*>(&x)};
      if (auto* owner = ended->owner) {
        owner->timer_ = nullptr;
        owner->look_around();
      }
    };
    device.ring().submit(timer_->operation);
  }

  void cancel_timer() {
    if (!timer_)
      return;
    timer_->owner = nullptr;
    device.ring().cancel(timer_->operation);
    timer_ = nullptr;
  }

  void look_around() {
    std::vector<std::shared_ptr<file_shard>> due;
    auto marks = false;
    for (auto& [name, x] : open_) {
      if (!x)
        continue;
      marks |= x->has_marks();
      if (due.size() + running_ < background_max && x->checkpoint_due(device.now() - options.checkpoint_after))
        if (auto alive = x->weak_from_this().lock())
          due.push_back(std::move(alive));
    }
    if (marks && !ended_)
      set_timer(device.now() + std::max<std::chrono::nanoseconds>(options.checkpoint_after / 2, 1ms));
    for (auto& x : due) {
      ++running_;
      start(checkpoint_in_background(std::move(x)));
    }
  }

  task<> checkpoint_in_background(std::shared_ptr<file_shard> x) {
    // Keeps the host alive, too. What fails is tried again, or found by the next request.
    (void)co_await x->checkpoint();
    --running_;
  }

  std::map<shard_file_name, file_shard*> open_; // null: reserved
  wait_list gone_;
  timer* timer_ = nullptr;
  size_t running_ = 0;
  bool ended_ = false;
};

// -- the store ------------------------------------------------------------------------------------------------------

file_store::file_store(reactor& on, shard_store_options options)
  : host_(std::make_shared<host>(on, std::move(options))) {}

file_store::~file_store() {
  host_->end();
}

const shard_store_options& file_store::options() const noexcept {
  return host_->options;
}

device_statistics file_store::statistics() const {
  return host_->device.meter().statistics(host_->device.now());
}

std::string file_store::path_of(const shard_file_name& name) const {
  return host_->options.directory + "/" + to_string(name);
}

task<int32_t> file_store::open_data_file(std::string path, int flags, shard_file& file) {
  auto& ring = host_->device.ring();
  file.direct = host_->options.io == file_io::direct;
  auto fd = -EINVAL;
  if (file.direct)
    fd = co_await open_file(ring, path, flags | O_DIRECT);
  // A file system without O_DIRECT: buffered, with buffered's precautions.
  if (fd == -EINVAL) {
    file.direct = false;
    fd = co_await open_file(ring, path, flags);
  }
  file.fd = fd;
  co_return fd;
}

task<errc> file_store::make_file(std::string path, const shard_header& header, std::shared_ptr<file_shard>& made) {
  auto& device = host_->device;
  shard_file file;
  auto fd = co_await open_data_file(path, O_RDWR | O_CREAT | O_TRUNC, file);
  if (fd < 0)
    co_return fd == -ENOSPC || fd == -EDQUOT ? errc::tier_full : errc::device_failed;
  // Closes the file, whatever comes.
  auto x = std::make_shared<file_shard>(host_, file, header);
  auto status = co_await resize_file(device.ring(), fd, shard_layout{header.size}.file_bytes);
  if (status != errc::none)
    co_return status == errc::tier_full ? status : errc::device_failed;
  bool unsupported = false;
  status = co_await device.allocate(fd, 0, 0, shard_layout{header.size}.metadata_bytes, unsupported);
  if (status != errc::none && !unsupported)
    co_return status;
  status = co_await x->format();
  if (status == errc::none)
    made = std::move(x);
  co_return status;
}

task<opened_shard> file_store::create(const shard_header& header) {
  auto keep = host_; // the store may go while this waits
  auto name = name_of(header);
  auto wanted = header;
  opened_shard result;
  result.status = valid_shard_size(wanted.size) ? co_await keep->reserve(name) : errc::invalid_argument;
  if (result.status != errc::none)
    co_return result;
  std::shared_ptr<file_shard> made;
  result.status = co_await make_whole(path_of(name), wanted, made);
  if (made)
    result.shard = keep->serve(std::move(made));
  else
    keep->free(name);
  co_return result;
}

task<errc> file_store::make_whole(std::string path, const shard_header& header, std::shared_ptr<file_shard>& made) {
  auto& ring = host_->device.ring();
  auto there = co_await open_file(ring, path, O_RDONLY);
  if (there >= 0) {
    (void)co_await close_file(ring, there);
    co_return errc::already_exists;
  }
  if (there != -ENOENT)
    co_return errc::device_failed;
  // Under another name until it is whole: a crash leaves a shard or nothing. A leftover of one is overwritten.
  auto under = path + std::string{unfinished_suffix};
  std::shared_ptr<file_shard> x;
  auto status = co_await make_file(under, header, x);
  if (status == errc::none) {
    status = co_await rename_file(ring, under, path);
    if (status == errc::none) {
      under = path;
      if (!header.incomplete)
        status = co_await sync_folder(ring, host_->options.directory);
    }
  }
  if (status == errc::none) {
    made = std::move(x);
    co_return status;
  }
  (void)co_await unlink_file(ring, under);
  co_return status == errc::tier_full ? status : errc::device_failed;
}

task<opened_shard> file_store::open(shard_id id, generation of) {
  auto keep = host_;
  shard_file_name name{id, of};
  opened_shard result;
  result.status = co_await keep->reserve(name);
  if (result.status != errc::none)
    co_return result;
  std::shared_ptr<file_shard> x;
  result.status = co_await open_whole(path_of(name), name, x);
  if (result.status == errc::none)
    result.shard = keep->serve(std::move(x));
  else
    keep->free(name);
  co_return result;
}

task<errc> file_store::open_whole(std::string path, shard_file_name name, std::shared_ptr<file_shard>& opened) {
  shard_file file;
  auto fd = co_await open_data_file(std::move(path), O_RDWR, file);
  if (fd < 0)
    co_return fd == -ENOENT ? errc::not_found : errc::device_failed;
  // How large the shard is, and with it where things are, is known only from a header.
  shard_header header;
  auto status = errc::none;
  {
    lent_buffer memory{host_->device.buffers(), 2 * header_slot_bytes};
    status = co_await read_fully(host_->device.ring(), fd, 0, memory.bytes());
    auto* records = reinterpret_cast<const header_record*>(memory.bytes().data());
    if (status == errc::none) {
      auto chosen = choose_header(records[0], records[1]);
      status = chosen.status;
      header = header_of(records[chosen.slot]);
    } else if (status != errc::bad_format) {
      status = errc::device_failed;
    }
  }
  if (status != errc::none) {
    (void)co_await close_file(host_->device.ring(), fd);
    co_return status;
  }
  header.id = name.id;
  header.generation = name.generation;
  auto x = std::make_shared<file_shard>(host_, file, header); // closes the file, whatever comes
  status = co_await x->load();
  if (status == errc::none)
    opened = std::move(x);
  co_return status;
}

task<errc> file_store::remove(shard_id id, generation of) {
  auto keep = host_;
  shard_file_name name{id, of};
  auto path = path_of(name);
  auto status = co_await keep->reserve(name);
  if (status != errc::none)
    co_return status;
  auto& ring = keep->device.ring();
  // Not synced: what power loss brings back is unfinished, or sealed for a generation that is home, and goes again.
  status = co_await unlink_file(ring, path);
  keep->free(name);
  co_return status == errc::none || status == errc::not_found ? status : errc::device_failed;
}

std::unique_ptr<shard_store> make_file_store(reactor& on, shard_store_options options) {
  return std::make_unique<file_store>(on, std::move(options));
}

} // namespace varve
