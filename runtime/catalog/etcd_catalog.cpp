#include "runtime/catalog/etcd_catalog.hpp"

#include "runtime/storage/durable_file.hpp"
#include "runtime/storage/random_id.hpp"

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
    store->lead(x, [leads, changed, hopeless, incarnation = x.incarnation, until = x.until](const caf::error& problem) {
      if (problem) {
        leads->set({false, context_of(problem)});
        hopeless(context_of(problem));
        return;
      }
      leads->set({true, {}, incarnation, until});
      changed("CATALOG_LEADING", "this node leads, incarnation " + std::to_string(incarnation));
    });
  };
  events.renewed = [leads = self->leads_](const etcd_leadership& x) { leads->extend(x.incarnation, x.until); };
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
  std::string identity;
  const auto status = read_whole_file(path, random_id_letters, identity, problem);
  if (status != errc::none && status != errc::not_found)
    return {};
  // Another length: made by an earlier version in the middle of a crash. Nobody has that identity.
  if (identity.size() == random_id_letters)
    return identity;
  identity = make_random_id();
  if (identity.empty())
    problem = "the system gives no random bytes";
  else if (!write_file_durably(path, identity, problem))
    identity.clear();
  return identity;
}

} // namespace varve
