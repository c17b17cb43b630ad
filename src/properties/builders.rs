//! What builders take of the properties.

use std::path::Path;

use super::{Properties, Remark, secured, security::Security, settings, table::By};
use crate::{
    client::ClientBuilder, consumer::ReaderBuilder, error::Result, group::GroupBuilder, producer::ProducerBuilder,
};

impl ClientBuilder {
    /// Takes the client's options from a Java client's configuration: servers, times, and security. Servers are added to
    /// those that were named already; everything else is replaced, and what the properties do not say stays.
    ///
    /// When it connects, the builder writes a line to the log for each key that is not understood, or makes no difference.
    ///
    /// ```
    /// # fn main() -> klamm::Result<()> {
    /// use klamm::{Client, Properties};
    /// let properties: Properties = "bootstrap.servers=kafka:9092\nrequest.timeout.ms=10000".parse()?;
    /// let client = Client::builder().client_id("billing").properties(&properties)?.connect_lazy()?;
    /// # drop(client);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Config`](crate::ErrorKind::Config), naming file, line and key, when klamm cannot do what is asked for, and what it can;
    /// [`Unsupported`](crate::ErrorKind::Unsupported) when it could, but was built without.
    pub fn properties(mut self, properties: &Properties) -> Result<Self> {
        properties.check(By::Client)?;
        self.bootstrap.extend(settings::servers(properties)?);
        settings::client(properties, &mut self.config)?;
        let given = self.config.sasl.as_ref().map(|sasl| sasl.mechanism().name());
        if let Some(security) = Security::of(properties, given)? {
            let had_tls = secured::has_tls(&self.config);
            secured::apply(security, &mut self.config)?;
            if had_tls && !secured::has_tls(&self.config) {
                self.remarks.extend(properties.taking_tls_away());
            }
        }
        self.remarks.extend(properties.remarks());
        properties.untold(); // they are among these
        Ok(self)
    }

    /// The same with a file, whose other keys nobody is to have: [`Properties::from_file`].
    ///
    /// ```no_run
    /// # fn main() -> klamm::Result<()> {
    /// let client = klamm::Client::builder().properties_file("client.properties")?.connect()?;
    /// # drop(client);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Properties::from_file`] and [`properties`](Self::properties).
    pub fn properties_file(self, path: impl AsRef<Path>) -> Result<Self> {
        self.properties(&Properties::from_file(path)?)
    }
}

impl GroupBuilder {
    /// Takes what a Java consumer's configuration says of groups and reading; what it does not say stays.
    ///
    /// - `auto.offset.reset` is both [`start_at`](Self::start_at) and [`out_of_range`](Self::out_of_range).
    /// - `max.poll.interval.ms` is the [`rebalance_timeout`](Self::rebalance_timeout), as Java's consumers tell the group.
    /// - `enable.auto.commit=false` is [`commit_interval(None)`](Self::commit_interval): only what is acked is committed in
    ///   any case; which messages that are is for [`ack_mode`](Self::ack_mode) to say.
    /// - Of `partition.assignment.strategy`, those are taken that klamm has.
    ///
    /// ```
    /// # fn main() -> klamm::Result<()> {
    /// # let client = klamm::Client::builder().bootstrap("localhost:9092").connect_lazy()?;
    /// let properties: klamm::Properties = "group.id=billing\nsession.timeout.ms=20000".parse()?;
    /// let group = client.group("billing").topics(["orders"]).properties(&properties)?;
    /// # drop(group);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Config`](crate::ErrorKind::Config), naming file, line and key, when klamm cannot do what is asked for, and when
    /// `group.id` is another group.
    pub fn properties(mut self, properties: &Properties) -> Result<Self> {
        properties.untold().iter().for_each(Remark::log);
        properties.check(By::Reading)?;
        properties.check(By::Group)?;
        settings::reading(properties, &mut self.fetch)?;
        settings::group(properties, &self.id, &mut self.group)?;
        Ok(self)
    }
}

impl ReaderBuilder {
    /// Takes what a Java consumer's configuration says of reading; what it does not say stays. `auto.offset.reset` is both
    /// [`start_at`](Self::start_at) and [`out_of_range`](Self::out_of_range).
    ///
    /// ```
    /// # fn main() -> klamm::Result<()> {
    /// # let client = klamm::Client::builder().bootstrap("localhost:9092").connect_lazy()?;
    /// let properties: klamm::Properties = "isolation.level=read_uncommitted".parse()?;
    /// let reader = client.reader().topics(["orders"]).properties(&properties)?;
    /// # drop(reader);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Config`](crate::ErrorKind::Config), naming file, line and key, when klamm cannot do what is asked for.
    pub fn properties(mut self, properties: &Properties) -> Result<Self> {
        properties.untold().iter().for_each(Remark::log);
        properties.check(By::Reading)?;
        settings::reading(properties, &mut self.fetch)?;
        Ok(self)
    }
}

impl ProducerBuilder {
    /// Takes what a Java producer's configuration says; what it does not say stays. A `batch.size` above
    /// [`request_bytes`](Self::request_bytes) raises that.
    ///
    /// ```
    /// # fn main() -> klamm::Result<()> {
    /// # let client = klamm::Client::builder().bootstrap("localhost:9092").connect_lazy()?;
    /// let properties: klamm::Properties = "linger.ms=20\ncompression.type=lz4".parse()?;
    /// let producer = client.producer().properties(&properties)?;
    /// # drop(producer);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Config`](crate::ErrorKind::Config), naming file, line and key, when klamm cannot do what is asked for, such as
    /// transactions.
    pub fn properties(mut self, properties: &Properties) -> Result<Self> {
        properties.untold().iter().for_each(Remark::log);
        properties.check(By::Producer)?;
        settings::producer(properties, &mut self.config)?;
        Ok(self)
    }
}
