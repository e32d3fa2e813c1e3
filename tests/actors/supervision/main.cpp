#define BOOST_TEST_MODULE supervision
#include <boost/test/unit_test.hpp>
