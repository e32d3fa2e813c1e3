#include "runtime/recovery/stopped_node.hpp"

#include <cerrno>
#include <cstring>
#include <ctime>
#include <filesystem>

#include <fcntl.h>
#include <fmt/chrono.h>
#include <sys/file.h>
#include <unistd.h>

#include "messages/errors.hpp"
#include "runtime/storage/durable_file.hpp"

namespace varve {

namespace {

caf::error os_failed(const std::string& path, const std::error_code& error) {
  return make_error(errc::device_failed, path + ": " + error.message());
}

} // namespace

std::unique_ptr<stopped_node> stopped_node::take(node_config config, caf::error& problem) {
  if (config.catalog.kind != catalog_kind::sqlite && config.cluster.nodes.empty()) {
    problem = make_error(errc::unsupported, "this node's catalog is in etcd: etcdctl snapshot saves and restores it");
    return nullptr;
  }
  const auto file = config.data_dir + "/varved.lock";
  std::error_code ignored;
  if (!std::filesystem::is_directory(config.data_dir, ignored)) {
    problem = make_error(errc::not_found, "data_dir " + config.data_dir);
    return nullptr;
  }
  const int fd = ::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0) {
    problem = make_error(errc::device_failed, file + ": " + std::strerror(errno));
    return nullptr;
  }
  if (::flock(fd, LOCK_EX | LOCK_NB) != 0) {
    char pid[32] = {};
    const auto n = ::pread(fd, pid, sizeof pid - 1, 0);
    ::close(fd);
    problem =
      make_error(errc::unavailable,
                 fmt::format("varved runs with {}{}: stop it first", config.data_dir,
                             n > 0 ? fmt::format(" (process {})", std::string{pid, std::strcspn(pid, "\n")}) : ""));
    return nullptr;
  }
  return std::unique_ptr<stopped_node>{new stopped_node(std::move(config), fd)};
}

std::string tier_ids_folder(const node_config& config) {
  return config.data_dir + "/tier-ids";
}

stopped_node::stopped_node(node_config config, int lock) : config_(std::move(config)), lock_(lock) {
  const bool elsewhere = !config_.roles.manager || config_.catalog.kind != catalog_kind::sqlite;
  folder_ = !config_.cluster.nodes.empty() && elsewhere ? tier_ids_folder(config_) : config_.data_dir;
}

stopped_node::~stopped_node() {
  ::close(lock_);
}

bool stopped_node::has_catalog() const {
  std::error_code ignored;
  return std::filesystem::exists(catalog_path(), ignored);
}

std::shared_ptr<sqlite_store> stopped_node::open_catalog(caf::error& problem) const {
  if (!has_catalog()) {
    problem = make_error(errc::not_found, catalog_path());
    return nullptr;
  }
  return sqlite_store::open({folder_, 0}, problem);
}

caf::error stopped_node::prepare_new(std::string& path) const {
  std::error_code error;
  std::filesystem::remove_all(new_folder(), error);
  if (!error && std::filesystem::create_directory(new_folder(), error))
    std::filesystem::permissions(new_folder(), std::filesystem::perms::owner_all, error);
  path = new_catalog_path();
  return error ? os_failed(new_folder(), error) : caf::error{};
}

std::shared_ptr<sqlite_store> stopped_node::make_catalog(caf::error& problem) const {
  std::string path;
  problem = prepare_new(path);
  return problem ? nullptr : sqlite_store::open({new_folder(), 0}, problem);
}

std::shared_ptr<sqlite_store> stopped_node::open_new(caf::error& problem) const {
  return sqlite_store::open({new_folder(), 0}, problem);
}

caf::error stopped_node::replace(std::string& aside) const {
  std::error_code error;
  std::string problem;
  aside.clear();
  if (has_catalog()) {
    aside = catalog_path() + fmt::format(".before-{:%Y%m%dT%H%M%SZ}", fmt::gmtime(std::time(nullptr)));
    for (int n = 2; std::filesystem::exists(aside, error); ++n)
      aside = catalog_path() + fmt::format(".before-{:%Y%m%dT%H%M%SZ}.{}", fmt::gmtime(std::time(nullptr)), n);
    // Its log first (there is one only where it could not be read): SQLite would take it for the new catalog's.
    for (const auto* tail : {"-wal", "-shm", "-journal", ""}) {
      if (!std::filesystem::exists(catalog_path() + tail, error))
        continue;
      std::filesystem::rename(catalog_path() + tail, aside + tail, error);
      if (error)
        return os_failed(catalog_path() + tail, error);
    }
    if (!sync_folder_of(catalog_path(), problem))
      return make_error(errc::device_failed, problem);
  }
  std::filesystem::rename(new_folder() + "/catalog.db", catalog_path(), error);
  if (error)
    return os_failed(new_folder(), error);
  if (!sync_folder_of(catalog_path(), problem))
    return make_error(errc::device_failed, problem);
  std::filesystem::remove_all(new_folder(), error);
  return {};
}

} // namespace varve
