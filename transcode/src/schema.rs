//! What descriptors say about a process's services: which request means which method.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use prost::Message;
use prost_reflect::{DescriptorPool, MessageDescriptor, MethodDescriptor, ServiceDescriptor};
use prost_types::FileDescriptorSet;

use crate::http_rule::{self, Binding, BodyRule};
use crate::limits::SCHEMA_BYTES;
use crate::percent;
use crate::route::Route;

/// Services with names that begin so are gRPC's own (health, reflection, channelz): a method's name alone never means one of theirs.
const GRPC_OWN: &str = "grpc.";
/// Where `google.protobuf.Any` is defined.
const ANY_FILE: &str = "google/protobuf/any.proto";
const ANY: &str = "google.protobuf.Any";

/// The descriptors of one process's services.
#[derive(Debug)]
pub struct Schema {
    pool: DescriptorPool,
    /// The process's own name, as others call it.
    own: String,
    /// The bindings of all annotations, preferred ones first.
    bindings: Vec<(Binding, MethodDescriptor)>,
    warnings: Vec<String>,
}

/// Why descriptors are of no use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaError(String);

impl fmt::Display for SchemaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for SchemaError {}

/// A request that means no method, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoSuchMethod(pub String);

impl Schema {
    /// Reads a serialized `google.protobuf.FileDescriptorSet`. `own`: the name that the process's service has here.
    ///
    /// # Errors
    /// It is too large, none, lacks a file that another one imports, or has no service.
    pub fn new(set: &[u8], own: &str) -> Result<Schema, SchemaError> {
        if set.len() > SCHEMA_BYTES {
            return Err(SchemaError(format!("more than {SCHEMA_BYTES} bytes")));
        }
        let not_one = |error: &dyn fmt::Display| {
            SchemaError(format!(
                "not a serialized FileDescriptorSet (protoc --include_imports --descriptor_set_out): {error}"
            ))
        };
        let files = FileDescriptorSet::decode(set).map_err(|error| not_one(&error))?.file;
        let names: BTreeSet<&str> = files.iter().map(|file| file.name()).collect();
        for file in &files {
            if let Some(absent) = file.dependency.iter().find(|import| !names.contains(import.as_str())) {
                let importer = file.name();
                return Err(SchemaError(format!(
                    "{importer} imports {absent}, which is not there: protoc --include_imports puts it in"
                )));
            }
        }
        // From the bytes: what is made of the messages above has lost the options that they do not know, annotations among them.
        let mut pool = DescriptorPool::decode(set).map_err(|error| not_one(&error))?;
        if pool.get_message_by_name(ANY).is_none()
            && let Some(file) = DescriptorPool::global().get_file_by_name(ANY_FILE)
        {
            // For the details of statuses. Where it cannot be added they are shown undecoded.
            let _ = pool.add_file_descriptor_proto(file.file_descriptor_proto().clone());
        }
        if pool.services().len() == 0 {
            return Err(SchemaError("they define no service".to_owned()));
        }
        let mut bindings = Vec::new();
        let mut warnings = Vec::new();
        for method in pool.services().flat_map(|service| service.methods().collect::<Vec<_>>()) {
            let (good, bad) = http_rule::bindings(&method);
            bindings.extend(good.into_iter().map(|binding| (binding, method.clone())));
            warnings.extend(bad);
        }
        bindings.sort_by(|(one, _), (other, _)| one.template.preference(&other.template));
        Ok(Schema { pool, own: own.to_owned(), bindings, warnings })
    }

    /// What is odd and left out: annotations that cannot be followed. A sentence each.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The full names of the services.
    pub fn services(&self) -> Vec<String> {
        self.pool.services().map(|service| service.full_name().to_owned()).collect()
    }

    /// The method that a request means, with what its target says. In this order: `POST /{package.Service}/{Method}`, an annotation,
    /// `POST /{Method}` or `POST /{package.Service.Method}`.
    ///
    /// # Errors
    /// There is none, or there are several.
    pub fn find(&self, verb: &str, target: &str) -> Result<Route, NoSuchMethod> {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let plain = |method| Route::new(method, BodyRule::All, None, Vec::new(), query);
        // JSON-RPC has a method's name in one segment, whatever it is.
        let name = percent::text(path, |_| false).unwrap_or_default();
        let name = name.strip_prefix('/').unwrap_or_default();
        if verb == "POST"
            && let Some((service, method)) = name.split_once('/')
            && let Some(method) = self.pool.get_service_by_name(service).and_then(|known| find_method(&known, method))
        {
            return Ok(plain(method));
        }
        let mut other_verbs = BTreeSet::new();
        for (binding, method) in &self.bindings {
            let Some(filled) = binding.template.matches(path) else { continue };
            if binding.verb != verb && binding.verb != "*" {
                other_verbs.insert(binding.verb.as_str());
                continue;
            }
            let filled = filled.into_iter().map(|(field, value)| (field.to_owned(), value)).collect();
            return Ok(Route::new(method.clone(), binding.body.clone(), binding.answer.clone(), filled, query));
        }
        if verb == "POST" && !name.is_empty() && !name.contains('/') {
            return self.named(name).map(plain);
        }
        Err(NoSuchMethod(match other_verbs.is_empty() {
            true => format!("no method is called by {verb} {path}"),
            false => {
                let verbs: Vec<&str> = other_verbs.into_iter().collect();
                format!("no method is called by {verb} {path}; the path is for {}", verbs.join(", "))
            }
        }))
    }

    /// The method of this name: in the service that is called as the process is, else in whichever has one.
    fn named(&self, name: &str) -> Result<MethodDescriptor, NoSuchMethod> {
        if let Some((service, method)) = name.rsplit_once('.')
            && let Some(method) = self.pool.get_service_by_name(service).and_then(|known| find_method(&known, method))
        {
            return Ok(method);
        }
        let candidates: Vec<ServiceDescriptor> = {
            let own = self.pool.services().find(|service| service.full_name().eq_ignore_ascii_case(&self.own));
            let all = || self.pool.services().filter(|service| !service.full_name().starts_with(GRPC_OWN)).collect();
            own.map_or_else(all, |own| vec![own])
        };
        let mut found: BTreeMap<String, MethodDescriptor> = BTreeMap::new();
        for service in &candidates {
            if let Some(method) = find_method(service, name) {
                found.insert(method.full_name().to_owned(), method);
            }
        }
        if found.len() > 1 {
            let names: Vec<String> = found.into_keys().collect();
            return Err(NoSuchMethod(format!("'{name}' may be any of {}: name it in full", names.join(", "))));
        }
        found.into_values().next().ok_or_else(|| {
            let names: Vec<&str> = candidates.iter().map(ServiceDescriptor::full_name).collect();
            NoSuchMethod(format!("no method '{name}' in {}", names.join(", ")))
        })
    }

    /// `google.protobuf.Any`, with these descriptors to resolve it by.
    pub(crate) fn any(&self) -> Option<MessageDescriptor> {
        self.pool.get_message_by_name(ANY)
    }
}

fn find_method(service: &ServiceDescriptor, name: &str) -> Option<MethodDescriptor> {
    service.methods().find(|method| method.name() == name)
}
