#include "tests/bench/scale_disk.hpp"

#include <algorithm>
#include <fstream>
#include <stdexcept>
#include <tuple>

namespace varve::bench {

namespace {

/// Rows that wait for the next write to the file.
constexpr size_t pending_max = 512;

auto key_of(const scale_disk::row& x) {
  return std::tuple{x.volume, x.index, x.generation};
}

shard_header header_of(const scale_disk::row& x, uint64_t size) {
  shard_header result;
  result.id = {volume_id{x.volume}, shard_index{x.index}};
  result.size = size;
  result.generation = generation{x.generation};
  result.fence = epoch{x.fence};
  return result;
}

} // namespace

void scale_disk::write(const row& x) {
  pending_.push_back(x);
  if (pending_.size() >= pending_max)
    flush();
}

void scale_disk::flush() {
  if (pending_.empty())
    return;
  std::ofstream file{path_, std::ios::binary | std::ios::app};
  file.write(reinterpret_cast<const char*>(pending_.data()),
             static_cast<std::streamsize>(pending_.size() * sizeof(row)));
  if (!file.flush())
    throw std::runtime_error("cannot write " + path_);
  pending_ = {};
}

std::vector<scale_disk::row> scale_disk::all() {
  flush();
  std::vector<row> result;
  std::ifstream file{path_, std::ios::binary | std::ios::ate};
  if (!file)
    return result; // nothing was ever written
  result.resize(static_cast<size_t>(file.tellg()) / sizeof(row));
  file.seekg(0);
  file.read(reinterpret_cast<char*>(result.data()), static_cast<std::streamsize>(result.size() * sizeof(row)));
  if (!file)
    throw std::runtime_error("cannot read " + path_);
  return result;
}

std::vector<scale_disk::row> scale_disk::read() {
  auto result = all();
  std::stable_sort(result.begin(), result.end(), [](auto& a, auto& b) { return key_of(a) < key_of(b); });
  // Of equal ones the last was written last.
  const auto first =
    std::unique(result.rbegin(), result.rend(), [](auto& a, auto& b) { return key_of(a) == key_of(b); });
  result.erase(result.begin(), first.base());
  return result;
}

std::optional<scale_disk::row> scale_disk::find(shard_id id, generation of) {
  std::optional<row> result;
  const std::tuple wanted{id.volume.value(), id.index.value(), of.value()};
  for (const auto& x : all())
    if (key_of(x) == wanted)
      result = x;
  return result;
}

// -- the data path
// -----------------------------------------------------------------------------------------------------

const scale_plane::port* scale_plane::find(volume_id volume) const {
  auto at = ports_.find(volume);
  return at == ports_.end() ? nullptr : &at->second;
}

void scale_plane::need(volume_id volume, shard_index first, uint64_t count) {
  if (auto at = ports_.find(volume); at != ports_.end())
    at->second.on_need({route_need{volume, first, count, true}});
}

void scale_plane::open_port(port_options options, callback<errc> done) {
  auto& x = ports_[options.volume];
  x.on_need = std::move(options.on_need);
  x.routed.resize((options.size_bytes + options.shard_size - 1) / options.shard_size);
  done(errc::none);
}

void scale_plane::close_port(volume_id volume, bool, callback<errc> done) {
  done(ports_.erase(volume) ? errc::none : errc::not_found);
}

void scale_plane::set_routes(volume_id volume, std::vector<route> routes) {
  auto at = ports_.find(volume);
  if (at == ports_.end())
    return;
  for (const auto& x : routes)
    if (x.exists && x.first.value() < at->second.routed.size()) {
      auto bit = at->second.routed[x.first.value()];
      at->second.routes += x.writable ? !bit : 0;
      at->second.routes -= x.writable ? 0 : bit;
      bit = x.writable;
    }
}

void scale_plane::drop_routes(volume_id volume, shard_index first, uint64_t count, callback<errc> done) {
  auto at = ports_.find(volume);
  if (at == ports_.end())
    return done(errc::not_found);
  auto& x = at->second;
  const auto begin = std::min<uint64_t>(first.value(), x.routed.size());
  const auto end = begin + std::min<uint64_t>(count, x.routed.size() - begin);
  for (auto i = begin; i < end; ++i)
    if (x.routed[i]) {
      x.routed[i] = false;
      --x.routes;
    }
  done(errc::none);
}

void scale_plane::extend_routes(volume_id volume, boot_time valid_until) {
  if (auto at = ports_.find(volume); at != ports_.end()) {
    ++at->second.extensions;
    at->second.extended_until = valid_until;
  }
}

void scale_plane::create_shard(std::string, shard_header header, callback<shard_summary> done) {
  disk_->write({header.id.volume.value(), header.id.index.value(), header.generation.value(), header.fence.value()});
  // As if all of it were written at once: so that what is free says where shards are.
  done({errc::none, header, header.size});
}

void scale_plane::activate_shard(std::string, shard_id id, generation of, callback<shard_summary> done) {
  const auto found = disk_->find(id, of);
  if (!found)
    return done({errc::not_found, {}, 0});
  done({errc::none, header_of(*found, shard_size_), shard_size_});
}

void scale_plane::raise_fence(std::string, shard_id id, generation of, epoch to, callback<errc> done) {
  disk_->write({id.volume.value(), id.index.value(), of.value(), to.value()});
  done(errc::none);
}

} // namespace varve::bench
