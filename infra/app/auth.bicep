// App Service authentication (Easy Auth): checks Entra's tokens in front of the function and says who asks.

param functionName string

@description('False turns it off: Rowgate checks Entra\'s tokens itself.')
param isEnabled bool

@description('Whether a call without a token that is known here goes through. See main.bicep.')
param letsUnknownTokensPass bool

param clientId string
param identifierUri string

@description('Clients, beside the application itself, whose tokens are taken.')
param allowedClientIds array

resource app 'Microsoft.Web/sites@2024-11-01' existing = {
  name: functionName
}

resource authentication 'Microsoft.Web/sites/config@2024-11-01' = {
  parent: app
  name: 'authsettingsV2'
  properties: {
    platform: {
      enabled: isEnabled
      runtimeVersion: '~1'
    }
    globalValidation: {
      requireAuthentication: !letsUnknownTokensPass
      unauthenticatedClientAction: letsUnknownTokensPass ? 'AllowAnonymous' : 'Return401'
      redirectToProvider: 'azureactivedirectory'
    }
    httpSettings: {
      requireHttps: true
    }
    identityProviders: {
      azureActiveDirectory: {
        enabled: true
        registration: {
          openIdIssuer: '${environment().authentication.loginEndpoint}${tenant().tenantId}/v2.0'
          clientId: clientId
          // Names a setting that holds no secret: the managed identity stands in for one.
          clientSecretSettingName: 'OVERRIDE_USE_MI_FIC_ASSERTION_CLIENTID'
        }
        validation: {
          allowedAudiences: [
            clientId
            identifierUri
          ]
          defaultAuthorizationPolicy: {
            allowedApplications: union([
              clientId
            ], allowedClientIds)
          }
        }
      }
    }
    login: {
      // Rowgate wants to know who asks, and calls nobody else in their name: nothing to store.
      tokenStore: {
        enabled: false
      }
    }
  }
}
