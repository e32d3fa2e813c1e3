#include "runtime/catalog/etcd_catalog.hpp"

#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <sys/random.h>
#include <unistd.h>

namespace varve {

std::unique_ptr<etcd_catalog> etcd_catalog::make(etcd_catalog_options options, std::shared_ptr<leadership> leads,
                                                 std::function<void(std::string, std::string)> changed,
                                                 std::function<void(std::string)> hopeless, caf::error& problem) {
  auto client = etcd_client::make(std::move(options.connection), problem);
  if (!client)
    return nullptr;
  std::unique_ptr<etcd_catalog> self{new etcd_catalog(std::move(client))};
  self->leads_ = std::move(leads);
  self->store_ = std::make_unique<etcd_store>(*self->client_, options.store);
  etcd_election_events events;
  // The election ends before the store.
  events.leading = [store = self->store_.get(), leads = self->leads_, changed, hopeless](const etcd_leadership& x) {
    store->lead(x, [leads, changed, hopeless, incarnation = x.incarnation](const caf::error& problem) {
      if (problem) {
        leads->set({false, context_of(problem)});
        hopeless(context_of(problem));
        return;
      }
      leads->set({true, {}});
      changed("CATALOG_LEADING", "this node leads, incarnation " + std::to_string(incarnation));
    });
  };
  events.lost = [store = self->store_.get(), leads = self->leads_, changed](const std::string& why) {
    const auto text = "this node does not lead any more: " + why;
    store->follow(text);
    leads->set({false, text});
    changed("CATALOG_LOST", text);
  };
  events.waiting = [store = self->store_.get(), leads = self->leads_, changed](const std::string& why) {
    store->follow("this node does not lead: " + why);
    leads->set({false, why});
    changed("CATALOG_WAITING", why);
  };
  self->election_ = std::make_unique<etcd_election>(*self->client_, std::move(options.election), std::move(events));
  return self;
}

etcd_catalog::~etcd_catalog() {
  // What is asked last is still asked as the leader.
  store_->drain();
  election_.reset();
  leads_->set({false, "stopping"});
}

std::string election_identity_file(const std::string& data_dir) {
  return data_dir + "/etcd-identity";
}

std::string election_identity(const std::string& data_dir, std::string& problem) {
  const auto path = election_identity_file(data_dir);
  const auto failed = [&](int fd) {
    problem = path + ": " + std::strerror(errno);
    if (fd >= 0)
      ::close(fd);
    return std::string{};
  };
  constexpr size_t letters = 32;
  char text[letters + 1] = {};
  int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0 && errno != ENOENT)
    return failed(fd);
  if (fd >= 0) {
    const auto n = ::read(fd, text, letters);
    ::close(fd);
    if (n == static_cast<ssize_t>(letters))
      return text;
    // A crash came between its making and its content: nobody has that identity.
  }
  unsigned char random[letters / 2];
  if (::getrandom(random, sizeof random, 0) != static_cast<ssize_t>(sizeof random))
    return failed(-1);
  for (size_t i = 0; i < sizeof random; ++i)
    std::snprintf(text + 2 * i, 3, "%02x", random[i]);
  fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (fd < 0 || ::write(fd, text, letters) != static_cast<ssize_t>(letters) || ::fsync(fd) != 0)
    return failed(fd);
  ::close(fd);
  return text;
}

} // namespace varve
