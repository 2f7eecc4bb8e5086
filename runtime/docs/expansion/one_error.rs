#[::farcall::__private::async_trait]
trait Account: ::farcall::Implements<
        AccountProxy,
    > + ::core::marker::Send + ::core::marker::Sync {
    async fn deposit(
        &self,
        cents: u64,
    ) -> ::core::result::Result<(), ::farcall::CallError>;
}
/// Proxy for remote objects that implement [`Account`].
///
/// Its methods have the trait's names and return a call, which is a future and more: see
/// [`Call`](::farcall::Call). It implements [`Account`] too, so it stands wherever a
/// local object can. Clones share a connection.
#[derive(::core::clone::Clone, ::core::fmt::Debug)]
struct AccountProxy {
    remote: ::farcall::__private::Remote,
}
#[allow(dead_code)]
#[deny(elided_lifetimes_in_paths)]
impl AccountProxy {
    /// *At most once*: however often it is sent again, the method runs once or never.
    /// A call waits as long as its node says, unless it sets a time of its own.
    ///
    /// # Errors
    /// The method has no error of its own.
    /// A [`CallError`](::farcall::CallError) says by [`execution`](::farcall::CallError::execution) whether the method ran.
    fn deposit(
        &self,
        cents: u64,
    ) -> ::farcall::Call<(u64,), (), ::core::convert::Infallible> {
        ::farcall::__private::call(
            &self.remote,
            const {
                <dyn Account as ::farcall::Interface>::DESCRIPTOR
                    .position(::farcall::__private::MethodId(0xdaf9072c))
            },
            (cents,),
            |bytes| ::farcall::__private::decode(bytes),
        )
    }
}
#[automatically_derived]
#[::farcall::__private::async_trait]
impl Account for AccountProxy {
    async fn deposit(
        &self,
        cents: u64,
    ) -> ::core::result::Result<(), ::farcall::CallError> {
        AccountProxy::deposit(self, cents).await
    }
}
#[automatically_derived]
impl ::farcall::Proxy for AccountProxy {
    type Interface = dyn Account;
    fn from_remote(remote: ::farcall::__private::Remote) -> Self {
        Self { remote }
    }
    fn as_remote(&self) -> &::farcall::__private::Remote {
        &self.remote
    }
}
#[automatically_derived]
impl ::farcall::__private::Serialize for AccountProxy {
    fn serialize<S: ::farcall::__private::Serializer>(
        &self,
        serializer: S,
    ) -> ::core::result::Result<S::Ok, S::Error> {
        ::farcall::__private::serialize_reference(self, serializer)
    }
}
#[automatically_derived]
impl<'de> ::farcall::__private::Deserialize<'de> for AccountProxy {
    fn deserialize<D: ::farcall::__private::Deserializer<'de>>(
        deserializer: D,
    ) -> ::core::result::Result<Self, D::Error> {
        ::farcall::__private::deserialize_reference(deserializer)
    }
}
/// Group of remote objects that implement [`Account`], called together.
///
/// Its methods are those of [`AccountProxy`], and return a call to all members: see
/// [`GroupCall`](::farcall::GroupCall) and [`Group`](::farcall::Group).
#[allow(dead_code)]
#[derive(::core::clone::Clone, ::core::fmt::Debug)]
struct AccountGroup {
    members: ::farcall::__private::Members,
}
#[allow(dead_code)]
impl AccountGroup {
    /// Called at each member, as that of [`AccountProxy`] at one.
    fn deposit(
        &self,
        cents: u64,
    ) -> ::farcall::GroupCall<(u64,), (), ::core::convert::Infallible> {
        ::farcall::__private::group_call(
            &self.members,
            const {
                <dyn Account as ::farcall::Interface>::DESCRIPTOR
                    .position(::farcall::__private::MethodId(0xdaf9072c))
            },
            (cents,),
            |bytes| ::farcall::__private::decode(bytes),
        )
    }
}
#[automatically_derived]
impl ::farcall::Group for AccountGroup {
    type Interface = dyn Account;
    fn from_members(members: ::farcall::__private::Members) -> Self {
        Self { members }
    }
    fn as_members(&self) -> &::farcall::__private::Members {
        &self.members
    }
}
#[automatically_derived]
impl ::farcall::Implements<AccountProxy> for AccountProxy {}
#[automatically_derived]
impl ::farcall::Object<dyn Account> for AccountProxy {
    fn into_interface(
        self: ::farcall::__private::Arc<Self>,
    ) -> ::farcall::__private::Arc<dyn Account> {
        self
    }
}
#[automatically_derived]
impl ::farcall::Interface for dyn Account {
    type Proxy = AccountProxy;
    type Marker = AccountProxy;
    const DESCRIPTOR: &'static ::farcall::Descriptor = &::farcall::Descriptor {
        name: "Account",
        methods: &[
            ::farcall::MethodDescriptor {
                name: "deposit",
                id: ::farcall::__private::MethodId(0xdaf9072c),
                signature: "async fn deposit(&mut self, cents: u64)",
                docs: "",
                semantics: ::farcall::Semantics::AtMostOnce,
                oneway: false,
                spawn: false,
                timeout: ::core::option::Option::None,
                max_reply: ::core::option::Option::None,
            },
        ],
    };
    fn dispatch(
        object: ::farcall::__private::Arc<Self>,
        method: ::farcall::__private::MethodId,
        arguments: ::farcall::__private::Arguments,
        room: ::farcall::__private::Room,
    ) -> ::farcall::__private::Dispatch {
        match method.0 {
            0xdaf9072c => {
                room.put(async move {
                    match ::farcall::__private::decode::<(u64,)>(&arguments) {
                        ::core::result::Result::Ok((cents,)) => {
                            ::farcall::__private::answer(
                                <dyn Account as Account>::deposit(&*object, cents).await,
                                arguments,
                            )
                        }
                        ::core::result::Result::Err(error) => {
                            ::farcall::__private::bad_arguments(error, arguments)
                        }
                    }
                })
            }
            _ => ::farcall::__private::no_such_method(arguments, room),
        }
    }
}
::core::compile_error! {
    "`&mut self` cannot be called remotely: objects are shared; take `&self` and lock inside"
}
::core::compile_error! {
    "a remote method cannot be generic: its arguments are decoded as fixed types; write the types, or one method for each"
}
